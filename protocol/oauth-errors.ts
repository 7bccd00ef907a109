/**
 * Errors of the token endpoint, as OAuth 2.0 defines them (RFC 6749, section 5.2). They have a registry of their own,
 * because that standard gives their names, and one name (`invalid_request`) is in the other registry too.
 */
import type { ErrorKind } from './errors.js'

export const OAuthErrors = {
  invalid_request: {
    http: 400,
    owner: 'caller',
    next: 'fix',
    meaning: 'a parameter is missing, stands there twice, or has the wrong form: correct the request',
  },
  invalid_client: {
    http: 401,
    owner: 'caller',
    next: 'fix',
    meaning:
      'the client assertion is missing, forged, expired, too long-lived, for another audience or used before: sign a new one',
  },
  unauthorized_client: {
    http: 400,
    owner: 'caller',
    next: 'give_up',
    meaning: 'the project is suspended and gets tokens with the scope project:read only: ask the operator',
  },
  unsupported_grant_type: {
    http: 400,
    owner: 'caller',
    next: 'fix',
    meaning: 'grant_type is not client_credentials, the only one that this service has',
  },
  invalid_scope: {
    http: 400,
    owner: 'caller',
    next: 'fix',
    meaning: 'a scope is unknown: ask for those that the API document lists',
  },
  invalid_target: {
    http: 400,
    owner: 'caller',
    next: 'fix',
    meaning: 'an audience is unknown (RFC 8707): use the one that the settings file of the project names',
  },
  rate_limited: {
    http: 429,
    owner: 'caller',
    next: 'retry',
    meaning:
      'there were more requests from this address than the limit allows: try again after the time in Retry-After',
  },
  temporarily_unavailable: {
    http: 503,
    owner: 'us',
    next: 'retry',
    meaning: 'the store is away, or too much is under way: try again later with a new assertion',
  },
  server_error: {
    http: 500,
    owner: 'us',
    next: 'retry',
    meaning: 'the service has failed, and its log has the cause: try again later with a new assertion',
  },
} as const satisfies Record<string, ErrorKind>

export type OAuthErrorCode = keyof typeof OAuthErrors

/** The token endpoint answers it as `{"error", "error_description"}`. */
export class OAuthError extends Error {
  constructor(
    readonly code: OAuthErrorCode,
    description?: string,
    readonly details: { status?: number; retryAfterMs?: number; challenge?: string } = {},
  ) {
    super(description ?? OAuthErrors[code].meaning)
    this.name = 'OAuthError'
  }

  get status(): number {
    return this.details.status ?? OAuthErrors[this.code].http
  }
}
