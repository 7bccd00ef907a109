/** The public HTTP API of a core: its routes. */
import { enrolDevice } from './enrol.js'
import type { Face } from './face.js'
import { readiness, showHealth } from './health.js'
import { cancelMessage, sendMessage, showMessage } from './messages.js'
import { showCounters, showProject } from './projects.js'
import { createHttpServer, type HttpServer, type Routes } from './server.js'
import type { HttpSettings } from './settings.js'

export type Gateway = HttpServer

const API = '/push/public/api/v1/projects/:project'

function routes(): Routes<Face> {
  return {
    '/healthz': { GET: showHealth },
    '/readyz': { GET: readiness() },
    '/device/v1/enrol': { POST: enrolDevice },
    [API]: { GET: showProject },
    [`${API}/counters`]: { GET: showCounters },
    [`${API}/messages`]: { POST: sendMessage },
    [`${API}/messages/:message`]: { GET: showMessage, DELETE: cancelMessage },
  }
}

export function createGateway(parts: Omit<Face, 'bodyBytesMax'>, settings: HttpSettings): Gateway {
  return createHttpServer({ ...parts, bodyBytesMax: settings.bodyBytesMax }, routes(), settings)
}
