/** What the routes of the admin API work with, and how each request starts: with whoever acts. */
import { CodedError } from '../../../../protocol/errors.js'
import type { Clock } from '../../../clock.js'
import type { Registrations } from '../../devices/registrations.js'
import type { ReadCounters } from '../../domain/commands.js'
import type { FeedAdministration } from '../../outcomes/feed-administration.js'
import type { Administration } from '../../tenants/administration.js'
import { actorOf } from '../../tenants/auth/credentials.js'
import type { Actor } from '../../tenants/auth/roles.js'
import type { PrivateServiceKey } from '../../tenants/auth/service-keys.js'
import type { AuthSettings } from '../../tenants/auth/settings.js'
import { settingsFileOf, settingsYaml } from '../../tenants/settings-file.js'
import { readJson } from '../body.js'
import type { BaseContext, HttpCall } from '../call.js'
import { bearerOf } from '../public/context.js'
import { networkOf } from '../rate-limits.js'
import type { Route } from '../route.js'
import { TokenBuckets } from '../token-buckets.js'

export interface AdminContext extends BaseContext {
  administration: Administration
  registrations: Registrations
  feeds: FeedAdministration
  readCounters: ReadCounters
  /** What stands in settings files. */
  publicUrl: () => string
  auth: Pick<AuthSettings, 'audience'>
  clock: Clock
  addresses: TokenBuckets
}

export type AdminRoute = Route<AdminContext>
export type AdminCall = HttpCall<AdminContext>

export interface ActingCall extends AdminCall {
  actor: Actor
}

/** Guesses at secrets and tools that loop are slowed down; no person is. */
const RATE = { perSecond: 20, burst: 100 }
const ADDRESSES_MAX = 10_000

export const adminAddresses = () => new TokenBuckets(ADDRESSES_MAX)

/** Throws CodedError `rate_limited`, `missing_token` or `bad_token`. */
export async function authenticateActor(call: AdminCall): Promise<ActingCall> {
  const { context, request } = call
  const { waitMs } = context.addresses.take(networkOf(request.ip), 1, RATE, context.clock.now())
  if (waitMs > 0) throw new CodedError('rate_limited')
  const actor = await actorOf(context.administration.credentials, bearerOf(request.headers.authorization))
  return { ...call, actor }
}

export interface BodyCall extends ActingCall {
  fields: Record<string, unknown>
}

/** The body's fields; an empty body has none. Throws CodedError `invalid_request` and what readJson throws. */
export async function readFields(call: ActingCall): Promise<BodyCall> {
  const { headers } = call.request
  if (headers['transfer-encoding'] === undefined && (headers['content-length'] ?? '0') === '0') {
    return { ...call, fields: {} }
  }
  const { body } = await readJson('one')(call)
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw new CodedError('invalid_request', 'the body must be an object', { field: '' })
  }
  return { ...call, fields: body as Record<string, unknown> }
}

/** Undefined where it is absent or null. Throws CodedError `invalid_request`. */
export function optionalText({ fields }: BodyCall, field: string): string | undefined {
  const value = fields[field] ?? undefined
  if (value === undefined || typeof value === 'string') return value
  throw new CodedError('invalid_request', `${field} must be a string`, { field })
}

/** As it was given, where it is one of those. Throws CodedError `invalid_request`. */
export function optionalChoice<T extends string>(call: BodyCall, field: string, choices: readonly T[]): T | undefined {
  const text = optionalText(call, field)
  const choice = choices.find((one) => one === text)
  if (text !== undefined && choice === undefined) {
    throw new CodedError('invalid_request', `${field} must be one of ${choices.join(', ')}`, { field })
  }
  return choice
}

/** Only what is there: options that are absent must not be there as undefined. */
export function present<T extends object>(fields: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>
  }
}

/** The settings file of an app server, as YAML and as an object: with a private key that is kept nowhere. */
export function settingsFor(
  context: AdminContext,
  project: { id: string; clientId: string },
  key: PrivateServiceKey,
): object {
  const { keyId, alg, privateKey } = key
  const settings = settingsFileOf({
    ...{ project: project.id, clientId: project.clientId, keyId, privateKey },
    ...{ publicUrl: context.publicUrl(), auth: context.auth },
  })
  return { keyId, alg, settings, settingsFile: settingsYaml(settings) }
}
