/**
 * Every code that closes a device connection, with the device's next move. A test compares this table with section
 * "Close codes" of PROTOCOL.md.
 */

/**
 * The device's next move.
 * - `reconnect`: reconnect with backoff and jitter, after the hint of GOAWAY or ERROR if one came before.
 * - `token`: forget the resume ticket and reconnect with the device token; if the token was refused, stop.
 * - `raise`: raise the connection number above the one that the service has seen, then reconnect.
 * - `renew`: renew the device token, then reconnect with the new token; if renewal is refused, stop.
 * - `stop`: do not reconnect with this identity.
 */
export type NextMove = 'reconnect' | 'token' | 'raise' | 'renew' | 'stop'

export interface CloseReason {
  code: number
  next: NextMove
  meaning: string
}

export const Close = {
  bye: { code: 1000, next: 'reconnect', meaning: 'the answer to BYE; a device that sent no BYE reconnects' },
  going_away: { code: 1001, next: 'reconnect', meaning: 'the server shuts down or drains; GOAWAY came before' },
  protocol_error: { code: 4000, next: 'reconnect', meaning: 'the bytes are not a frame, or a body does not decode' },
  frame_too_large: { code: 4001, next: 'reconnect', meaning: 'a frame is longer than the limit' },
  unexpected_frame: { code: 4002, next: 'reconnect', meaning: 'the state of the connection does not allow the frame' },
  hello_timeout: { code: 4003, next: 'reconnect', meaning: 'HELLO (or, for a device, WELCOME) did not come in time' },
  unsupported_version: {
    code: 4004,
    next: 'stop',
    meaning: 'the server does not speak this protocol version: update the device',
  },
  bad_token: {
    code: 4010,
    next: 'stop',
    meaning: 'the device token is malformed, forged or from another service: enrol anew',
  },
  token_expired: {
    code: 4011,
    next: 'renew',
    meaning: 'the device token has ended, or a newer one was used: renew it',
  },
  bad_ticket: {
    code: 4012,
    next: 'token',
    meaning: 'the resume ticket is expired, forged or made with a retired key: use the token',
  },
  revoked: { code: 4013, next: 'stop', meaning: 'the operator has revoked the device' },
  stale_connection: {
    code: 4020,
    next: 'raise',
    meaning: 'the service has seen the same or a greater connection number of this device',
  },
  replaced: { code: 4021, next: 'stop', meaning: 'the device connected again, with a greater connection number' },
  connection_ahead: {
    code: 4022,
    next: 'renew',
    meaning: 'the connection number is too far above the one that the service has seen: renew the token',
  },
  idle: { code: 4030, next: 'reconnect', meaning: 'nothing came for longer than the keepalive allows' },
  too_slow: { code: 4031, next: 'reconnect', meaning: 'the device does not read what the server sends' },
  rate_limited: { code: 4032, next: 'reconnect', meaning: 'the device sent more frames a second than allowed' },
  overloaded: {
    code: 4040,
    next: 'reconnect',
    meaning: 'the server has no room; an ERROR with retry_after_ms came before',
  },
  unavailable: { code: 4041, next: 'reconnect', meaning: 'a part of the service behind the transport does not answer' },
  internal: { code: 4050, next: 'reconnect', meaning: 'the server has failed' },
} as const satisfies Record<string, CloseReason>

export type CloseName = keyof typeof Close

const byCode = new Map<number, CloseName>(Object.entries(Close).map(([name, c]) => [c.code, name as CloseName]))

/** The name of a close code; null for other codes (1006: the network, or a close that the library forced). */
export function closeName(code: number): CloseName | null {
  return byCode.get(code) ?? null
}
