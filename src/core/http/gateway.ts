/**
 * The HTTP listener of a core: routes, and the limits that hold before any route is asked. Connections, headers, bodies
 * and time are bounded; whatever is thrown is answered as a coded error.
 */
import type { AddressInfo } from 'node:net'
import Fastify, { type FastifyInstance, type HTTPMethods } from 'fastify'
import { CodedError } from '../../../protocol/errors.js'
import { leaveBodies } from './body.js'
import { enrolDevice } from './enrol.js'
import { answerError, answerSocket } from './errors.js'
import type { Call, Face } from './face.js'
import { readiness, showHealth } from './health.js'
import { cancelMessage, sendMessage, showMessage } from './messages.js'
import { showCounters, showProject } from './projects.js'
import type { HttpSettings } from './settings.js'

export interface Gateway {
  app: FastifyInstance
  /** Resolves with the address it listens on. */
  listen(): Promise<{ url: string; port: number }>
  /** Answers what is under way, then closes every connection. */
  stop(): Promise<void>
}

type Handler = (call: Call) => object | Promise<object>
type Routes = Record<string, Partial<Record<'GET' | 'POST' | 'DELETE', Handler>>>

const API = '/push/public/api/v1/projects/:project'

function routes(): Routes {
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

const METHODS: HTTPMethods[] = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']

/** Longer parts of a path are no project and no message. */
const PARAMETER_CHARACTERS_MAX = 64
/** How often node looks for requests that take too long. */
const TIMEOUT_CHECK_MS = 1_000

export function createGateway(parts: Omit<Face, 'bodyBytesMax'>, settings: HttpSettings): Gateway {
  const face: Face = { ...parts, bodyBytesMax: settings.bodyBytesMax }
  const app = Fastify({
    logger: false,
    requestTimeout: settings.requestTimeoutMs,
    keepAliveTimeout: settings.keepAliveTimeoutMs,
    exposeHeadRoutes: false,
    forceCloseConnections: 'idle',
    http: {
      headersTimeout: Math.min(settings.headersTimeoutMs, settings.requestTimeoutMs),
      connectionsCheckingInterval: TIMEOUT_CHECK_MS,
    },
    // Clients join `.../v1/` and `/projects/...` naively.
    routerOptions: { ignoreDuplicateSlashes: true, maxParamLength: PARAMETER_CHARACTERS_MAX },
    clientErrorHandler: answerSocket,
    frameworkErrors: (error, request, reply) => answerError(reply, error, face.log, `${request.method} malformed`),
  })
  app.server.maxConnections = settings.connectionsMax
  boundInFlight(app, settings.inFlightMax)
  leaveBodies(app)
  for (const [url, handlers] of Object.entries(routes())) addRoute(app, face, url, handlers)
  app.setNotFoundHandler((request, reply) =>
    answerError(reply, new CodedError('not_found'), face.log, `${request.method} unknown`),
  )
  app.setErrorHandler((error, request, reply) =>
    answerError(reply, error, face.log, `${request.method} ${request.routeOptions.url ?? 'unknown'}`),
  )
  return {
    app,
    listen: async () => {
      await app.listen({ host: settings.host, port: settings.port })
      const { address, port, family } = app.server.address() as AddressInfo
      return { url: `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`, port }
    },
    stop: () => app.close(),
  }
}

function addRoute(app: FastifyInstance, face: Face, url: string, handlers: Routes[string]): void {
  for (const [method, handler] of Object.entries(handlers)) {
    app.route({ method, url, handler: async (request, reply) => handler({ face, request, reply }) })
  }
  const others = METHODS.filter((method) => !(method in handlers))
  app.route({
    method: others,
    url,
    onRequest: async (_request, reply) => {
      reply.header('allow', Object.keys(handlers).join(', '))
      throw new CodedError('method_not_allowed')
    },
    handler: () => undefined,
  })
}

/** A request counts from its first byte until its answer is out or its connection gone. */
function boundInFlight(app: FastifyInstance, inFlightMax: number): void {
  let inFlight = 0
  app.addHook('onRequest', async (_request, reply) => {
    inFlight++
    reply.raw.once('close', () => {
      inFlight--
    })
    if (inFlight > inFlightMax) throw new CodedError('overloaded')
  })
}
