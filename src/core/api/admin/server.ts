/** The admin API: a listener of its own, for operators and their tools, never for app servers or devices. */
import { BodyBudget } from '../body-budget.js'
import { adminDocument } from '../openapi/documents.js'
import { serveDocument } from '../openapi/serve.js'
import { createHttpServer, type HttpServer } from '../server.js'
import type { AdminApiSettings, HttpSettings } from '../settings.js'
import { type AdminContext, type AdminRoute, adminAddresses } from './context.js'
import { adminEventRoutes } from './event-routes.js'
import { adminProjectRoutes } from './project-routes.js'
import { adminServiceRoutes } from './service-routes.js'

export function adminRoutes(): AdminRoute[] {
  return [...adminProjectRoutes, ...adminEventRoutes, ...adminServiceRoutes]
}

/** `limits`: those of the public listener hold here too. */
export function createAdminServer(
  parts: Omit<AdminContext, 'bodies' | 'addresses'>,
  { host, port }: AdminApiSettings,
  limits: HttpSettings,
): HttpServer {
  const context: AdminContext = { ...parts, bodies: new BodyBudget(limits), addresses: adminAddresses() }
  const routes = adminRoutes()
  const server = createHttpServer(context, routes, { ...limits, host, port })
  serveDocument(server, () => adminDocument(routes))
  return server
}
