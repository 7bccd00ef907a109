/** What the routes of the gateway work with, and how each request starts: with a call, then with a caller. */
import { CodedError } from '../../../../protocol/errors.js'
import type { Clock } from '../../../clock.js'
import type { Keyring, MacKey } from '../../../keyring.js'
import type { Broker } from '../../../nats/broker.js'
import type { ProjectRecord } from '../../../store/tenants.js'
import type { Registrations } from '../../devices/registrations.js'
import type { AcceptMessage, CancelMessage, ListMessages, ReadCounters, ReadStatus } from '../../domain/commands.js'
import type { MessageLimits } from '../../domain/limits.js'
import type { AuthSettings } from '../../tenants/auth/settings.js'
import type { AccessTokenVerifier, Caller, ScopeName } from '../../tenants/auth/tokens.js'
import type { Directory } from '../../tenants/directory.js'
import type { BaseContext, HttpCall } from '../call.js'
import type { RateLimits } from '../rate-limits.js'
import type { Route } from '../route.js'

export interface ApiContext extends BaseContext {
  broker: Broker
  directory: Directory
  keyring: Keyring
  accessTokens: AccessTokenVerifier
  registrationKeys: ReadonlyMap<string, MacKey>
  accept: AcceptMessage
  readStatus: ReadStatus
  cancel: CancelMessage
  readCounters: ReadCounters
  listMessages: ListMessages
  /** Names of the streams without which the core is not ready. */
  streams: readonly string[]
  rates: RateLimits
  auth: AuthSettings
  limits: MessageLimits
  clock: Clock
  /** Where app servers reach the API, without a slash at the end. */
  publicUrl: () => string
  /** `iss` of the access tokens that this core signs. */
  tokenIssuer: string
  registrations: Registrations
}

export type Call = HttpCall<ApiContext>
export type ApiRoute = Route<ApiContext>

export interface AuthenticatedCall extends Call {
  caller: Caller
  project: ProjectRecord
}

/**
 * A good token, of this service, for the project in the path, with the scope. Throws CodedError `missing_token`,
 * `bad_token`, `token_expired`, `forbidden`, `unknown_project`.
 */
export function authenticate(scope: ScopeName) {
  return async function authenticate(call: Call): Promise<AuthenticatedCall> {
    const { context, request } = call
    const caller = await context.accessTokens.verify(bearerOf(request.headers.authorization), context.clock.now())
    // Before the project is looked up: a foreign token learns nothing about which projects there are.
    if (caller.project !== paramOf(call, 'project')) throw new CodedError('forbidden')
    const project = await context.directory.project(caller.project)
    if (!project) throw new CodedError('unknown_project')
    const { clientId, keys } = project.serviceAccount
    if (caller.clientId !== clientId) throw new CodedError('forbidden')
    // Who removes a key that was stolen ends the tokens that the thief has with it.
    if (caller.keyId !== '' && !keys.some(({ kid }) => kid === caller.keyId)) throw new CodedError('bad_token')
    if (!caller.scopes.has(scope)) throw new CodedError('forbidden', `the token lacks the scope ${scope}`, { scope })
    return { ...call, caller, project }
  }
}

/** A suspended project may look, and not send. */
export function requireActive(call: AuthenticatedCall): AuthenticatedCall {
  if (!call.project.isActive) throw new CodedError('project_inactive')
  return call
}

export function paramOf(call: Pick<Call, 'request'>, name: string): string {
  return (call.request.params as Record<string, string | undefined>)[name] ?? ''
}

const BEARER = /^Bearer +([A-Za-z0-9._~+/=-]+) *$/i

export function bearerOf(header: string | undefined): string {
  if (header === undefined) throw new CodedError('missing_token')
  const token = BEARER.exec(header)?.[1]
  if (!token) throw new CodedError(/^Bearer\b/i.test(header) ? 'bad_token' : 'missing_token')
  return token
}
