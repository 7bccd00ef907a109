/** The services that routes of the admin API work with, and the step that authenticates the caller. */
import Type, { type TObject, type TSchema } from 'typebox'
import { CodedError } from '../../../../protocol/errors.js'
import type { Clock } from '../../../clock.js'
import type { Registrations } from '../../devices/registrations.js'
import type { ReadCounters } from '../../domain/commands.js'
import type { QueryBudget } from '../../domain/query-budget.js'
import type { FeedAdministration } from '../../outcomes/feed-administration.js'
import type { Administration } from '../../tenants/administration.js'
import { findActor } from '../../tenants/auth/credentials.js'
import type { Actor } from '../../tenants/auth/roles.js'
import type { PrivateServiceKey } from '../../tenants/auth/service-keys.js'
import type { AuthSettings } from '../../tenants/auth/settings.js'
import { settingsFileOf, settingsYaml } from '../../tenants/settings-file.js'
import type { BaseContext, HttpCall } from '../call.js'
import { bearerOf } from '../public/context.js'
import { networkOf } from '../rate-limits.js'
import { type Route, type RouteParts, route } from '../route.js'
import type { Rate, TokenBuckets } from '../token-buckets.js'
import type { FailedSignIns } from './failed-sign-ins.js'

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
  /** For each credential of a project. */
  changers: TokenBuckets
  /** Changes with one such credential; null: no limit. */
  changeRate: Rate | null
  signIns: FailedSignIns
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
  const network = networkOf(request.ip)
  const { waitMs } = context.addresses.take(network, 1, context.rate, context.clock.now())
  if (waitMs > 0) throw new CodedError('rate_limited')
  const secret = bearerOf(request.headers.authorization)
  const actor = await findActor(context.administration.credentials, secret).catch((error: unknown) => {
    if (error instanceof CodedError) context.signIns.add(network)
    throw error
  })
  if (request.method !== 'GET' && actor.projects !== '*') takeChange(context, actor)
  return { ...call, actor }
}

/** Throws CodedError `rate_limited`. */
function takeChange({ changers, changeRate, clock }: AdminContext, actor: Actor): void {
  if (changeRate === null) return
  const { waitMs } = changers.take(actor.name, 1, changeRate, clock.now())
  if (waitMs > 0) throw new CodedError('rate_limited', 'this credential has made its changes of the day')
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
