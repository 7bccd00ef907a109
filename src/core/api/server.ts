/**
 * The HTTP APIs of a core. This file makes a listener with the limits that hold before any route runs: connections,
 * headers, bodies and time are bounded, and every error is answered with its code. The public API and the admin API
 * each have one.
 */
import { METHODS } from 'node:http'
import type { AddressInfo } from 'node:net'
import Fastify, { type FastifyInstance, type FastifyReply } from 'fastify'
import { CodedError } from '../../../protocol/errors.js'
import { listedNetworks, Networks } from '../../networks.js'
import { AddressShares } from './address-shares.js'
import { leaveBodies } from './body.js'
import type { BaseContext } from './call.js'
import { answerError, answerSocket } from './error-answers.js'
import { PROBES } from './rate-limits.js'
import type { Route } from './route.js'
import type { HttpSettings } from './settings.js'

export interface HttpServer {
  app: FastifyInstance
  /** Adds a page that is no operation of the API: it has no input, and the OpenAPI document does not list it. */
  get(url: string, handler: (reply: FastifyReply) => unknown): void
  /** Resolves with the address it listens on. */
  listen(): Promise<HttpAddress>
  /** Answers the requests in flight, then closes every connection. */
  stop(): Promise<void>
}

export interface HttpAddress {
  url: string
  port: number
}

/** Puts a server where its clients reach it. Resolves with the address; rejects with the error of the listener. */
export type Bind = (app: FastifyInstance, settings: Pick<HttpSettings, 'host' | 'port'>) => Promise<HttpAddress>

/** Every method that Node's parser lets through as a request. CONNECT is an event of its own. */
const PARSED_METHODS = METHODS.filter((method) => method !== 'CONNECT')

/** The longest part of a path is a registrationId. A longer part names nothing. */
const PARAMETER_CHARACTERS_MAX = 512
/** How often Node checks for requests that take too long. */
const TIMEOUT_CHECK_MS = 1_000

export function createHttpServer<F extends BaseContext>(
  context: F,
  routes: readonly Route<F>[],
  settings: HttpSettings,
  bind: Bind = bindToPort,
): HttpServer {
  const app = Fastify({
    logger: false,
    requestTimeout: settings.requestTimeoutMs,
    keepAliveTimeout: settings.keepAliveTimeoutMs,
    exposeHeadRoutes: false,
    trustProxy: settings.trustedProxies === '' ? false : settings.trustedProxies,
    forceCloseConnections: 'idle',
    // Fastify would answer without a code and without Retry-After: see refuseWhileStopping.
    return503OnClosing: false,
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
  shareConnections(app, settings)
  // Fastify answers 500 to a method that it does not know, so it gets to know all.
  for (const method of PARSED_METHODS) app.addHttpMethod(method, { hasBody: false, overrideExisting: true })
  const beginToStop = refuseWhileStopping(app)
  boundInFlight(app, settings)
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
    get: (url, handler) => {
      app.route({ method: 'GET', url, handler: async (_request, reply) => handler(reply) })
      refuseOthers(app, url, ['GET'])
    },
    listen: () => bind(app, settings),
    stop: () => {
      beginToStop()
      return app.close()
    },
  }
}

const bindToPort: Bind = async (app, settings) => {
  await app.listen({ host: settings.host, port: settings.port })
  const { address, port, family } = app.server.address() as AddressInfo
  return { url: `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`, port }
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
    method: PARSED_METHODS.filter((method) => !allowed.includes(method)),
    url,
    onRequest: async (_request, reply) => {
      reply.header('allow', allowed.join(', '))
      throw new CodedError('method_not_allowed')
    },
    handler: () => undefined,
  })
}

/**
 * A connection that is kept alive may bring a request after the process began to stop. That request gets a coded 503
 * with Retry-After, and the sender tries another process.
 */
function refuseWhileStopping(app: FastifyInstance): () => void {
  let isStopping = false
  app.addHook('onRequest', async (_request, reply) => {
    if (!isStopping) return
    reply.header('connection', 'close')
    throw new CodedError('shutting_down')
  })
  return () => {
    isStopping = true
  }
}

/**
 * Cuts the connections of a network beyond its share, before they send anything. A trusted proxy brings the connections of
 * many, and has no share.
 */
function shareConnections(app: FastifyInstance, { connectionsMax, addressSharePercent, trustedProxies }: HttpSettings) {
  const shares = new AddressShares(connectionsMax, addressSharePercent)
  const proxies = new Networks(listedNetworks(trustedProxies), 'http.trustedProxies')
  app.server.on('connection', (socket) => {
    const { remoteAddress } = socket
    if (proxies.has(remoteAddress ?? '')) return
    if (!shares.take(remoteAddress)) {
      socket.destroy()
      return
    }
    socket.once('close', () => shares.release(remoteAddress))
  })
}

/**
 * A request counts from the arrival of its headers until its answer is sent or its connection is closed. Probes of an
 * orchestrator count nowhere: they are answered from memory.
 */
function boundInFlight(app: FastifyInstance, { inFlightMax, addressSharePercent }: HttpSettings): void {
  const shares = new AddressShares(inFlightMax, addressSharePercent)
  let inFlight = 0
  app.addHook('onRequest', async (request, reply) => {
    if (PROBES.has(request.url)) return
    const { ip } = request
    if (inFlight >= inFlightMax || !shares.take(ip)) throw new CodedError('overloaded')
    inFlight++
    reply.raw.once('close', () => {
      inFlight--
      shares.release(ip)
    })
  })
}
