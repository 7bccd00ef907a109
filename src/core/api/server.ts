/**
 * An HTTP listener of a core: the limits that hold before any route is asked. Connections, headers, bodies and time are
 * bounded; whatever is thrown is answered as a coded error. The public API and the admin API each have one.
 */
import type { AddressInfo } from 'node:net'
import Fastify, { type FastifyInstance, type HTTPMethods } from 'fastify'
import { CodedError } from '../../../protocol/errors.js'
import { leaveBodies } from './body.js'
import type { BaseContext } from './call.js'
import { answerError, answerSocket } from './error-answers.js'
import type { Route } from './route.js'
import type { HttpSettings } from './settings.js'

export interface HttpServer {
  app: FastifyInstance
  /** Resolves with the address it listens on. */
  listen(): Promise<{ url: string; port: number }>
  /** Answers what is under way, then closes every connection. */
  stop(): Promise<void>
}

const METHODS: HTTPMethods[] = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']

/** Longer parts of a path are nothing that there is: a registrationId is the longest. */
const PARAMETER_CHARACTERS_MAX = 512
/** How often node looks for requests that take too long. */
const TIMEOUT_CHECK_MS = 1_000

export function createHttpServer<F extends BaseContext>(
  context: F,
  routes: readonly Route<F>[],
  settings: HttpSettings,
): HttpServer {
  const app = Fastify({
    logger: false,
    requestTimeout: settings.requestTimeoutMs,
    keepAliveTimeout: settings.keepAliveTimeoutMs,
    exposeHeadRoutes: false,
    trustProxy: settings.trustedProxies === '' ? false : settings.trustedProxies,
    forceCloseConnections: 'idle',
    http: {
      headersTimeout: Math.min(settings.headersTimeoutMs, settings.requestTimeoutMs),
      connectionsCheckingInterval: TIMEOUT_CHECK_MS,
    },
    // Clients join `.../v1/` and `/projects/...` naively.
    routerOptions: { ignoreDuplicateSlashes: true, maxParamLength: PARAMETER_CHARACTERS_MAX },
    clientErrorHandler: answerSocket,
    frameworkErrors: (error, request, reply) => answerError(reply, error, context.log, `${request.method} malformed`),
  })
  app.server.maxConnections = settings.connectionsMax
  boundInFlight(app, settings.inFlightMax)
  leaveBodies(app)
  addRoutes(app, context, routes)
  app.setNotFoundHandler((request, reply) =>
    answerError(reply, new CodedError('not_found'), context.log, `${request.method} unknown`),
  )
  app.setErrorHandler((error, request, reply) =>
    answerError(reply, error, context.log, `${request.method} ${request.routeOptions.url ?? 'unknown'}`),
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

function addRoutes<F extends BaseContext>(app: FastifyInstance, context: F, routes: readonly Route<F>[]): void {
  const methodsOf = new Map<string, string[]>()
  for (const { method, url, handler } of routes) {
    app.route({ method, url, handler: async (request, reply) => handler({ context, request, reply }) })
    methodsOf.set(url, [...(methodsOf.get(url) ?? []), method])
  }
  for (const [url, allowed] of methodsOf) refuseOthers(app, url, allowed)
}

function refuseOthers(app: FastifyInstance, url: string, allowed: readonly string[]): void {
  app.route({
    method: METHODS.filter((method) => !allowed.includes(String(method))),
    url,
    onRequest: async (_request, reply) => {
      reply.header('allow', allowed.join(', '))
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
