/** The public HTTP API of a core: its routes on one listener. */

import { Bucket } from '../../../../protocol/subjects.js'
import { RecordTable } from '../../../store/tenants.js'
import type { MessageFormat } from '../../domain/message.js'
import { EnrolmentCounter } from '../../tenants/auth/enrolment-counter.js'
import type { AuthSettings } from '../../tenants/auth/settings.js'
import { BodyBudget } from '../body-budget.js'
import { discoveryRoutes } from '../oauth/discovery.js'
import { tokenRoutes } from '../oauth/token.js'
import { publicDocument } from '../openapi/documents.js'
import { serveDocument } from '../openapi/serve.js'
import { publicUrlOf, tokenIssuersOf } from '../public-url.js'
import { limitAddresses } from '../rate-limits.js'
import type { Route } from '../route.js'
import { type Bind, createHttpServer, type HttpServer } from '../server.js'
import type { HttpSettings } from '../settings.js'
import type { ApiContext } from './context.js'
import { enrolRoutes } from './enrol.js'
import { healthRoutes } from './health.js'
import { messageRoutes } from './messages.js'
import { projectRoutes } from './projects.js'
import { registrationRoutes } from './registrations.js'
import { topicRoutes } from './topics.js'

export type Gateway = HttpServer

/** All routes, in the order of the document. */
export function routes(auth: AuthSettings, messages: MessageFormat): Route<ApiContext>[] {
  return [
    ...tokenRoutes(auth),
    ...discoveryRoutes,
    ...projectRoutes,
    ...messageRoutes(messages),
    ...registrationRoutes,
    ...topicRoutes,
    ...enrolRoutes,
    ...healthRoutes(),
  ]
}

export function createGateway(
  parts: Omit<ApiContext, 'bodies' | 'publicUrl' | 'tokenIssuer' | 'enrolments'>,
  settings: HttpSettings,
  bind?: Bind,
): Gateway {
  let { port } = settings
  const context: ApiContext = {
    ...parts,
    bodies: new BodyBudget(settings),
    enrolments: new EnrolmentCounter(new RecordTable(parts.broker.table(Bucket.FLEETS), 'fleet'), parts.clock),
    publicUrl: () => publicUrlOf({ ...settings, port }),
    tokenIssuer: tokenIssuersOf(settings, parts.auth)[0] ?? parts.auth.issuer,
  }
  const all = routes(parts.auth, parts.messages)
  const server = createHttpServer(context, all, settings, bind)
  serveDocument(server, () => publicDocument(all, context.publicUrl()))
  limitAddresses(server.app, parts.rates)
  const listen = async () => {
    const address = await server.listen()
    port = address.port
    return address
  }
  return { ...server, listen }
}
