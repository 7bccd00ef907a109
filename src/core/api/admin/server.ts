/** The admin API: a listener of its own, for operators and their tools, never for app servers or devices. */
import { BodyBudget } from '../body-budget.js'
import { adminDocument } from '../openapi/documents.js'
import { serveDocument } from '../openapi/serve.js'
import { type Bind, createHttpServer, type HttpServer } from '../server.js'
import type { AdminApiSettings, HttpSettings } from '../settings.js'
import { TokenBuckets } from '../token-buckets.js'
import type { AdminContext, AdminRoute } from './context.js'
import { adminEventRoutes } from './event-routes.js'
import { adminProjectRoutes } from './project-routes.js'
import { adminServiceRoutes } from './service-routes.js'

const ADDRESSES_MAX = 10_000
const BURST_SECONDS = 5
const CREDENTIALS_MAX = 10_000
const DAY_SECONDS = 86_400

export function adminRoutes(): AdminRoute[] {
  return [...adminProjectRoutes, ...adminEventRoutes, ...adminServiceRoutes]
}

/** @param limits of the public listener: they hold here too. */
export function createAdminServer(
  parts: Omit<AdminContext, 'bodies' | 'addresses' | 'rate' | 'changers' | 'changeRate'>,
  { host, port, requestsPerSecond, changesPerDay }: AdminApiSettings,
  limits: HttpSettings,
  bind?: Bind,
): HttpServer {
  const context: AdminContext = {
    ...parts,
    bodies: new BodyBudget(limits),
    addresses: new TokenBuckets(ADDRESSES_MAX),
    rate: { perSecond: requestsPerSecond, burst: requestsPerSecond * BURST_SECONDS },
    changers: new TokenBuckets(CREDENTIALS_MAX),
    changeRate: changesPerDay === 0 ? null : { perSecond: changesPerDay / DAY_SECONDS, burst: changesPerDay },
  }
  const routes = adminRoutes()
  const server = createHttpServer(context, routes, { ...limits, host, port }, bind)
  serveDocument(server, () => adminDocument(routes))
  return server
}
