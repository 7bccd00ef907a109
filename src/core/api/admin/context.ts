/** The services that routes of the admin API work with, and the step that finds out who acts. */
import Type, { type TObject, type TSchema } from 'typebox'
import { CodedError } from '../../../../protocol/errors.js'
import type { Clock } from '../../../clock.js'
import type { Registrations } from '../../devices/registrations.js'
import type { ReadCounters } from '../../domain/commands.js'
import type { QueryBudget } from '../../domain/query-budget.js'
import type { FeedAdministration } from '../../outcomes/feed-administration.js'
import type { Administration } from '../../tenants/administration.js'
import { actorOf } from '../../tenants/auth/credentials.js'
import type { Actor } from '../../tenants/auth/roles.js'
import type { PrivateServiceKey } from '../../tenants/auth/service-keys.js'
import type { AuthSettings } from '../../tenants/auth/settings.js'
import { settingsFileOf, settingsYaml } from '../../tenants/settings-file.js'
import type { BaseContext, HttpCall } from '../call.js'
import { bearerOf } from '../public/context.js'
import { networkOf } from '../rate-limits.js'
import { type Route, type RouteParts, route } from '../route.js'
import type { Rate, TokenBuckets } from '../token-buckets.js'

export interface AdminContext extends BaseContext {
  administration: Administration
  registrations: Registrations
  feeds: FeedAdministration
  readCounters: ReadCounters
  queries: QueryBudget
  /** The address of the public API in settings files. */
  publicUrl: () => string
  auth: Pick<AuthSettings, 'audience'>
  clock: Clock
  addresses: TokenBuckets
  /** For each address: it slows down guesses at secrets, and tools that loop. */
  rate: Rate
}

export type AdminRoute = Route<AdminContext>
export type AdminCall = HttpCall<AdminContext>

export interface ActingCall extends AdminCall {
  actor: Actor
}

export type ProjectCall = ActingCall & { params: { project: string } }

/** The step throws CodedError `rate_limited`, `missing_token` or `bad_token`. */
async function authenticateActor(call: AdminCall): Promise<ActingCall> {
  const { context, request } = call
  const { waitMs } = context.addresses.take(networkOf(request.ip), 1, context.rate, context.clock.now())
  if (waitMs > 0) throw new CodedError('rate_limited')
  const actor = await actorOf(context.administration.credentials, bearerOf(request.headers.authorization))
  return { ...call, actor }
}

/** A route of the admin API: every operation asks for a credential. Roles are the concern of Administration. */
export function adminRoute<P extends TObject, Q extends TObject, B extends TSchema>(
  parts: Omit<RouteParts<AdminContext, ActingCall, P, Q, B, B>, 'before' | 'checks' | 'reads'>,
): AdminRoute {
  return route({ ...parts, before: authenticateActor })
}

export const ADMIN = '/admin/v1'
export const PROJECT = `${ADMIN}/projects/:project`

export const ProjectParams = Type.Object({ project: Type.String({ description: 'The id of the project.' }) })

/** The settings file of an app server, as YAML and as an object, with a private key that is kept nowhere. */
export function settingsFor(
  context: AdminContext,
  project: { id: string; clientId: string },
  { keyId, alg, privateKey }: PrivateServiceKey,
): object {
  const settings = settingsFileOf({
    project: project.id,
    clientId: project.clientId,
    keyId,
    privateKey,
    publicUrl: context.publicUrl(),
    auth: context.auth,
  })
  return { keyId, alg, settings, settingsFile: settingsYaml(settings) }
}
