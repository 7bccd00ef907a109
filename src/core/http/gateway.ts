/** The public HTTP API of a core: its routes. */
import { Bodies } from './body.js'
import { enrolRoutes } from './enrol.js'
import type { Face } from './face.js'
import { healthRoutes } from './health.js'
import { messageRoutes } from './messages.js'
import { projectRoutes } from './projects.js'
import type { Route } from './route.js'
import { createHttpServer, type HttpServer } from './server.js'
import type { HttpSettings } from './settings.js'

export type Gateway = HttpServer

/** Everything that is served, in the order of the document. */
export function routes(): Route<Face>[] {
  return [...projectRoutes, ...messageRoutes, ...enrolRoutes, ...healthRoutes()]
}

export function createGateway(parts: Omit<Face, 'bodies'>, settings: HttpSettings): Gateway {
  return createHttpServer({ ...parts, bodies: new Bodies(settings) }, routes(), settings)
}
