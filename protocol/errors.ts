/**
 * The registry of coded errors: of the HTTP API, of ERROR frames and of dead letters. Documents list the same codes
 * (a test compares them). An ERROR frame that precedes a close carries the close's name as its code.
 */

/** Who has to act. */
export type ErrorOwner = 'caller' | 'peer' | 'us'

/** What the caller does next. */
export type ErrorMove = 'fix' | 'retry' | 'give_up'

export interface ErrorKind {
  /** HTTP status; 0: never answered over HTTP. */
  http: number
  owner: ErrorOwner
  next: ErrorMove
  meaning: string
}

export const Errors = {
  // requests
  malformed_json: { http: 400, owner: 'caller', next: 'fix', meaning: 'the body is not JSON' },
  invalid_request: {
    http: 400,
    owner: 'caller',
    next: 'fix',
    meaning: 'a field is missing, of a wrong type or out of bounds; details name it',
  },
  payload_too_large: {
    http: 413,
    owner: 'caller',
    next: 'fix',
    meaning: 'the body, or one of its fields, is larger than allowed',
  },
  unsupported_media_type: {
    http: 415,
    owner: 'caller',
    next: 'fix',
    meaning: 'the content type is not one that is understood',
  },
  not_found: { http: 404, owner: 'caller', next: 'fix', meaning: 'there is no such resource' },
  method_not_allowed: { http: 405, owner: 'caller', next: 'fix', meaning: 'the resource does not take this method' },
  request_timeout: { http: 408, owner: 'caller', next: 'retry', meaning: 'the request did not arrive in time' },
  rate_limited: {
    http: 429,
    owner: 'caller',
    next: 'retry',
    meaning: 'more requests than the limit; Retry-After says when',
  },
  // who
  missing_token: { http: 401, owner: 'caller', next: 'fix', meaning: 'no bearer token' },
  bad_token: {
    http: 401,
    owner: 'caller',
    next: 'fix',
    meaning: 'the token is malformed, forged, or of another service',
  },
  token_expired: { http: 401, owner: 'caller', next: 'retry', meaning: 'the token has expired: get a new one' },
  forbidden: {
    http: 403,
    owner: 'caller',
    next: 'give_up',
    meaning: 'the token does not allow this, or not for this project',
  },
  bad_enrolment_key: { http: 401, owner: 'caller', next: 'fix', meaning: 'the enrolment key is unknown or retired' },
  bad_user_token: {
    http: 403,
    owner: 'caller',
    next: 'fix',
    meaning: 'the user token is not one that this project signed for this device',
  },
  // what
  unknown_project: { http: 404, owner: 'caller', next: 'fix', meaning: 'there is no such project' },
  unknown_application: { http: 404, owner: 'caller', next: 'fix', meaning: 'there is no such application' },
  unknown_registration: {
    http: 404,
    owner: 'caller',
    next: 'give_up',
    meaning: 'the registrationId is forged, or of another service',
  },
  foreign_registration: {
    http: 403,
    owner: 'caller',
    next: 'give_up',
    meaning: 'the registrationId is of another project',
  },
  revoked_registration: {
    http: 410,
    owner: 'caller',
    next: 'give_up',
    meaning: 'the registration has ended: forget it',
  },
  unknown_message: {
    http: 404,
    owner: 'caller',
    next: 'give_up',
    meaning: 'there is no such message, or it is too old',
  },
  already_final: {
    http: 409,
    owner: 'caller',
    next: 'give_up',
    meaning: 'what became of the message is already decided',
  },
  idempotency_conflict: {
    http: 422,
    owner: 'caller',
    next: 'fix',
    meaning: 'the idempotency key was used for another message',
  },
  project_inactive: { http: 403, owner: 'caller', next: 'give_up', meaning: 'the project is suspended' },
  webhook_address_refused: {
    http: 400,
    owner: 'caller',
    next: 'fix',
    meaning: 'the address of the webhook is not public, and not one that the operator allows',
  },
  too_many_registrations: {
    http: 409,
    owner: 'caller',
    next: 'fix',
    meaning: 'the device has as many registrations as it may',
  },
  too_many_topics: { http: 409, owner: 'caller', next: 'fix', meaning: 'the device has as many topics as it may' },
  // us
  unavailable: {
    http: 503,
    owner: 'us',
    next: 'retry',
    meaning: 'the store is away or did not answer: nothing was promised',
  },
  storage_full: { http: 503, owner: 'us', next: 'retry', meaning: 'the store is full: nothing was accepted' },
  overloaded: { http: 503, owner: 'us', next: 'retry', meaning: 'too much is under way' },
  internal: { http: 500, owner: 'us', next: 'retry', meaning: 'a fault of the service' },
} as const satisfies Record<string, ErrorKind>

export type ErrorCode = keyof typeof Errors

/**
 * Codes with which REGISTER, UNREGISTER, SUBSCRIBE and UNSUBSCRIBE are answered; a device gets no others of this
 * registry. The same list stands in PROTOCOL.md.
 */
export const DEVICE_REQUEST_ERRORS = [
  'invalid_request',
  'forbidden',
  'bad_user_token',
  'unknown_application',
  'unknown_registration',
  'project_inactive',
  'too_many_registrations',
  'too_many_topics',
  'rate_limited',
  'storage_full',
  'overloaded',
  'unavailable',
  'internal',
] as const satisfies readonly ErrorCode[]

/** An error that may be shown to whoever caused it. */
export class CodedError extends Error {
  constructor(
    readonly code: ErrorCode,
    message?: string,
    /** Which field, which limit: never a secret. */
    readonly details: Record<string, unknown> = {},
    options?: ErrorOptions,
  ) {
    super(message ?? Errors[code].meaning, options)
    this.name = 'CodedError'
  }
}
