/** The services that routes of the public API work with, and the steps that authenticate the caller. */
import { CodedError } from '../../../../protocol/errors.js'
import type { Clock } from '../../../clock.js'
import type { Keyring, MacKeys } from '../../../keyring.js'
import type { Broker } from '../../../nats/broker.js'
import type { ProjectRecord } from '../../../store/tenants.js'
import type { Registrations } from '../../devices/registrations.js'
import type { AcceptMessage, CancelMessage, ListMessages, ReadCounters, ReadStatus } from '../../domain/commands.js'
import type { MessageFormat } from '../../domain/message.js'
import type { QueryBudget } from '../../domain/query-budget.js'
import type { EnrolmentCounter } from '../../tenants/auth/enrolment-counter.js'
import type { AuthSettings } from '../../tenants/auth/settings.js'
import type { AccessTokenVerifier, Caller, ScopeName } from '../../tenants/auth/tokens.js'
import type { Directory } from '../../tenants/directory.js'
import type { BaseContext, HttpCall } from '../call.js'
import type { Step } from '../flow.js'
import type { RateLimits } from '../rate-limits.js'
import type { Route } from '../route.js'

export interface ApiContext extends BaseContext {
  broker: Broker
  directory: Directory
  keyring: Keyring
  accessTokens: AccessTokenVerifier
  registrationKeys: MacKeys
  accept: AcceptMessage
  readStatus: ReadStatus
  cancel: CancelMessage
  readCounters: ReadCounters
  listMessages: ListMessages
  queries: QueryBudget
  /** The streams without which the core is not ready. */
  streams: readonly string[]
  rates: RateLimits
  enrolments: EnrolmentCounter
  auth: AuthSettings
  messages: MessageFormat
  clock: Clock
  /** The address at which app servers reach the API, without a slash at the end. */
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

/** The step of an operation that asks for no access token. */
export const anybody = (call: Call): Call => call

/**
 * The step requires a good token of this service, for the project in the path, with the scope. Throws CodedError
 * `missing_token`, `bad_token`, `token_expired`, `forbidden`, `unknown_project`.
 */
export function authenticate(scope: ScopeName) {
  return async function authenticate(call: Call): Promise<AuthenticatedCall> {
    const { context, request } = call
    const caller = await context.accessTokens.verify(bearerOf(request.headers.authorization), context.clock.now())
    // Before the project is looked up: a token of another project learns nothing about the projects that exist.
    if (caller.project !== (request.params as { project?: string }).project) throw new CodedError('forbidden')
    const project = await context.directory.project(caller.project)
    if (!project) throw new CodedError('unknown_project')
    const { clientId, keys } = project.serviceAccount
    if (caller.clientId !== clientId) throw new CodedError('forbidden')
    // The owner of a stolen key removes it, and with it the tokens that the thief got.
    if (caller.keyId !== '' && !keys.some(({ kid }) => kid === caller.keyId)) throw new CodedError('bad_token')
    if (!caller.scopes.has(scope)) throw new CodedError('forbidden', `the token lacks the scope ${scope}`, { scope })
    return { ...call, caller, project }
  }
}

/** The step refuses a suspended project, which may look and not send. */
export function requireActive(call: AuthenticatedCall): AuthenticatedCall {
  if (!call.project.isActive) throw new CodedError('project_inactive')
  return call
}

/** The handler of a query: it runs within the query budget of its project. */
export function budgeted<C extends AuthenticatedCall, Out>(handler: Step<C, Out>): Step<C, Out> {
  return (call) => {
    const { context, project, reply } = call
    return context.queries.run(
      project.id,
      async () => handler(call),
      () => !reply.raw.destroyed,
    )
  }
}

const BEARER = /^Bearer +([A-Za-z0-9._~+/=-]+) *$/i

/** Throws CodedError `missing_token` or `bad_token`. */
export function bearerOf(header: string | undefined): string {
  if (header === undefined) throw new CodedError('missing_token')
  const token = BEARER.exec(header)?.[1]
  if (!token) throw new CodedError(/^Bearer\b/i.test(header) ? 'bad_token' : 'missing_token')
  return token
}
