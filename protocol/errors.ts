/**
 * The registry of coded errors: of the HTTP API, of dead letters, and of ERROR frames that answer a request of a
 * device. (An ERROR frame that precedes a close carries a name of close-codes.ts.) Tests compare it with
 * docs/send/errors.md and with PROTOCOL.md.
 *
 * Each meaning names the cause, then the next move.
 */

/** The side that has to act. */
export type ErrorOwner = 'caller' | 'peer' | 'us'

/** The caller's next move. */
export type ErrorMove = 'fix' | 'retry' | 'give_up'

export interface ErrorKind {
  /** HTTP status; 0: never answered over HTTP. */
  http: number
  owner: ErrorOwner
  next: ErrorMove
  meaning: string
}

export const Errors = {
  // the request
  malformed_json: {
    http: 400,
    owner: 'caller',
    next: 'fix',
    meaning: 'the body is not JSON in UTF-8: send one JSON object',
  },
  invalid_request: {
    http: 400,
    owner: 'caller',
    next: 'fix',
    meaning: 'a field is missing, has the wrong type or is out of bounds: correct the field that details names',
  },
  payload_too_large: {
    http: 413,
    owner: 'caller',
    next: 'fix',
    meaning: 'the body, or one of its fields, is larger than allowed: send less',
  },
  unsupported_media_type: {
    http: 415,
    owner: 'caller',
    next: 'fix',
    meaning: 'the service does not read this content type or encoding: send JSON in UTF-8, not compressed',
  },
  not_found: { http: 404, owner: 'caller', next: 'fix', meaning: 'there is no such resource: check the path' },
  method_not_allowed: {
    http: 405,
    owner: 'caller',
    next: 'fix',
    meaning: 'the resource does not have this method: use one that its documentation lists',
  },
  request_timeout: {
    http: 408,
    owner: 'caller',
    next: 'retry',
    meaning: 'the request did not arrive in time: send it again',
  },
  rate_limited: {
    http: 429,
    owner: 'caller',
    next: 'retry',
    meaning: 'there were more requests than the limit allows: try again after the time in Retry-After',
  },
  // the caller
  missing_token: {
    http: 401,
    owner: 'caller',
    next: 'fix',
    meaning: 'the request has no token: send the header "Authorization: Bearer TOKEN"',
  },
  bad_token: {
    http: 401,
    owner: 'caller',
    next: 'fix',
    meaning: 'the token is malformed, forged, or from another service: get a token from this service',
  },
  token_expired: {
    http: 401,
    owner: 'caller',
    next: 'retry',
    meaning: 'the token has expired: get a new one and send the request again',
  },
  forbidden: {
    http: 403,
    owner: 'caller',
    next: 'give_up',
    meaning: 'the token does not allow this, or is for another project: ask the operator for a token that does',
  },
  bad_enrolment_key: {
    http: 401,
    owner: 'caller',
    next: 'fix',
    meaning: 'the enrolment key is unknown or retired: ask the operator for a valid one',
  },
  bad_user_token: {
    http: 403,
    owner: 'caller',
    next: 'fix',
    meaning:
      'the user token has expired, or the project did not sign it for this application and device: sign a new one',
  },
  // the objects that a request names
  unknown_project: { http: 404, owner: 'caller', next: 'fix', meaning: 'there is no such project: check its id' },
  unknown_application: {
    http: 404,
    owner: 'caller',
    next: 'fix',
    meaning: 'there is no such application: check its id',
  },
  unknown_registration: {
    http: 404,
    owner: 'caller',
    next: 'give_up',
    meaning: 'the registrationId is forged, or from another service: delete it',
  },
  foreign_registration: {
    http: 403,
    owner: 'caller',
    next: 'give_up',
    meaning: 'the registrationId belongs to another project: send with a token of that project',
  },
  revoked_registration: {
    http: 410,
    owner: 'caller',
    next: 'give_up',
    meaning: 'the registration has ended: delete the registrationId',
  },
  unknown_message: {
    http: 404,
    owner: 'caller',
    next: 'give_up',
    meaning: 'there is no such message, or it is so old that it was deleted: check the id',
  },
  already_final: {
    http: 409,
    owner: 'caller',
    next: 'give_up',
    meaning: 'the message has its final status, which nothing changes: read it',
  },
  conflict: {
    http: 409,
    owner: 'caller',
    next: 'fix',
    meaning: 'the request does not fit the present state of the thing that it names: the message says how to go on',
  },
  idempotency_conflict: {
    http: 422,
    owner: 'caller',
    next: 'fix',
    meaning: 'the idempotency key was used for another message: use a new key',
  },
  project_inactive: {
    http: 403,
    owner: 'caller',
    next: 'give_up',
    meaning: 'the project is suspended: ask the operator',
  },
  webhook_address_refused: {
    http: 400,
    owner: 'caller',
    next: 'fix',
    meaning:
      'the address of the webhook is not public, and the operator does not allow it: use another, or ask the operator',
  },
  too_many_registrations: {
    http: 409,
    owner: 'caller',
    next: 'fix',
    meaning: 'the device has as many registrations as it may have: end one first',
  },
  too_many_topics: {
    http: 409,
    owner: 'caller',
    next: 'fix',
    meaning: 'the device has as many topics as it may have: leave one first',
  },
  // the service
  unavailable: {
    http: 503,
    owner: 'us',
    next: 'retry',
    meaning: 'the store is away or did not answer, and nothing was promised: try again later',
  },
  shutting_down: {
    http: 503,
    owner: 'us',
    next: 'retry',
    meaning: 'this process of the service is stopping, and nothing was promised: try again, another one takes over',
  },
  storage_full: {
    http: 503,
    owner: 'us',
    next: 'retry',
    meaning: 'the store is full, and nothing was accepted: try again later',
  },
  overloaded: {
    http: 503,
    owner: 'us',
    next: 'retry',
    meaning: 'the service has too much work under way: try again later',
  },
  internal: {
    http: 500,
    owner: 'us',
    next: 'retry',
    meaning: 'the service has failed, and its log has the cause: try again later',
  },
} as const satisfies Record<string, ErrorKind>

export type ErrorCode = keyof typeof Errors

/** The next move of a device whose request was refused; `register`: PROTOCOL.md, section "Requests". */
export type DeviceMove = ErrorMove | 'register'

/**
 * The codes that answer REGISTER, UNREGISTER, SUBSCRIBE and UNSUBSCRIBE, as devices read them: some mean less than over
 * HTTP, or lead to another move. A device gets no other codes of this registry. A test compares them with PROTOCOL.md.
 */
export const DeviceRequestErrors = {
  invalid_request: { next: 'fix', meaning: 'a field is missing or out of bounds; `detail` names it' },
  forbidden: { next: 'give_up', meaning: 'the device was revoked' },
  bad_user_token: { next: 'fix', meaning: Errors.bad_user_token.meaning },
  unknown_application: { next: 'fix', meaning: Errors.unknown_application.meaning },
  unknown_registration: { next: 'register', meaning: 'the device has no registration with this number' },
  project_inactive: { next: 'give_up', meaning: 'the project of the application is suspended' },
  too_many_registrations: { next: 'fix', meaning: Errors.too_many_registrations.meaning },
  too_many_topics: { next: 'fix', meaning: Errors.too_many_topics.meaning },
  rate_limited: { next: 'retry', meaning: 'there were more requests than the limit allows' },
  storage_full: { next: 'retry', meaning: 'the store is full, and nothing was changed' },
  overloaded: { next: 'retry', meaning: 'too many requests are under way, of this device or of all' },
  unavailable: { next: 'retry', meaning: 'the service did not answer; the request may have been carried out' },
  internal: { next: 'retry', meaning: 'the service has failed' },
} as const satisfies Partial<Record<ErrorCode, { next: DeviceMove; meaning: string }>>

/** An error that may be shown to the caller. */
export class CodedError extends Error {
  constructor(
    readonly code: ErrorCode,
    message?: string,
    /** The field or the limit that the error is about; never a secret. */
    readonly details: Record<string, unknown> = {},
    options?: ErrorOptions,
  ) {
    super(message ?? Errors[code].meaning, options)
    this.name = 'CodedError'
  }
}
