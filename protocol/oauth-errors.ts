/**
 * Errors of the token endpoint, as OAuth 2.0 writes them (RFC 6749, section 5.2). A registry of their own: their names
 * are given by that standard, and one of them (`invalid_request`) stands in the other registry too.
 */
import type { ErrorKind } from './errors.js'

export const OAuthErrors = {
  invalid_request: {
    http: 400,
    owner: 'caller',
    next: 'fix',
    meaning: 'a parameter is missing, given twice, or of a wrong form',
  },
  invalid_client: {
    http: 401,
    owner: 'caller',
    next: 'fix',
    meaning: 'the client assertion is missing, forged, expired, meant for another, too long-lived, or was used before',
  },
  unauthorized_client: {
    http: 400,
    owner: 'caller',
    next: 'give_up',
    meaning: 'the project is suspended: it gets tokens with the scope project:read only',
  },
  unsupported_grant_type: {
    http: 400,
    owner: 'caller',
    next: 'fix',
    meaning: 'grant_type is not client_credentials',
  },
  invalid_scope: { http: 400, owner: 'caller', next: 'fix', meaning: 'a scope is unknown' },
  invalid_target: { http: 400, owner: 'caller', next: 'fix', meaning: 'an audience is unknown (RFC 8707)' },
  rate_limited: {
    http: 429,
    owner: 'caller',
    next: 'retry',
    meaning: 'more requests from this address than the limit; Retry-After says when',
  },
  temporarily_unavailable: {
    http: 503,
    owner: 'us',
    next: 'retry',
    meaning: 'the store is away, or too much is under way; try again with a new assertion',
  },
  server_error: { http: 500, owner: 'us', next: 'retry', meaning: 'a fault of the service' },
} as const satisfies Record<string, ErrorKind>

export type OAuthErrorCode = keyof typeof OAuthErrors

/** Answered as `{"error", "error_description"}`. */
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
