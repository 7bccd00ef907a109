/** The admin API: a listener of its own, for operators and their tools, never for app servers or devices. */
import { Bodies } from '../body.js'
import { adminDocument } from '../openapi/documents.js'
import { serveDocument } from '../openapi/serve.js'
import type { Route } from '../route.js'
import { createHttpServer, type HttpServer } from '../server.js'
import type { AdminApiSettings, HttpSettings } from '../settings.js'
import { type AdminFace, adminAddresses } from './context.js'
import { adminEventRoutes } from './event-routes.js'
import { adminProjectRoutes } from './project-routes.js'
import { adminServiceRoutes } from './service-routes.js'

export function adminRoutes(): Route<AdminFace>[] {
  return [...adminProjectRoutes, ...adminEventRoutes, ...adminServiceRoutes]
}

/** `limits`: those of the public listener hold here too. */
export function createAdminServer(
  parts: Omit<AdminFace, 'bodies' | 'addresses'>,
  { host, port }: AdminApiSettings,
  limits: HttpSettings,
): HttpServer {
  const face: AdminFace = { ...parts, bodies: new Bodies(limits), addresses: adminAddresses() }
  const routes = adminRoutes()
  const server = createHttpServer(face, routes, { ...limits, host, port })
  serveDocument(server, () => adminDocument(routes))
  return server
}
