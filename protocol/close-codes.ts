/**
 * Every code with which a device connection is closed, with the device's next move. PROTOCOL.md section "Close codes"
 * has the same table (a test compares them).
 */

/**
 * What the device does next.
 * - `reconnect`: come back with backoff and jitter (after the hint of GOAWAY or ERROR, where one came before).
 * - `token`: forget the resume ticket, come back with the device token; when that is what was refused, enrol anew.
 * - `raise`: raise the connection number above what it was, then reconnect.
 * - `stop`: do not come back by itself.
 */
export type NextMove = 'reconnect' | 'token' | 'raise' | 'stop'

export interface CloseReason {
  code: number
  next: NextMove
  meaning: string
}

export const Close = {
  bye: { code: 1000, next: 'reconnect', meaning: 'the answer to BYE; a device that sent none comes back' },
  going_away: { code: 1001, next: 'reconnect', meaning: 'the server shuts down or drains; GOAWAY came before' },
  protocol_error: { code: 4000, next: 'reconnect', meaning: 'bytes that are no frame, or a body that does not decode' },
  frame_too_large: { code: 4001, next: 'reconnect', meaning: 'a frame longer than the limit' },
  unexpected_frame: { code: 4002, next: 'reconnect', meaning: 'a frame that is not allowed in this state' },
  hello_timeout: { code: 4003, next: 'reconnect', meaning: 'no HELLO in time' },
  unsupported_version: { code: 4004, next: 'stop', meaning: 'the server does not speak this protocol version' },
  bad_token: { code: 4010, next: 'stop', meaning: 'the device token is malformed, forged or of another service' },
  token_expired: { code: 4011, next: 'stop', meaning: 'the device token has expired: enrol anew' },
  bad_ticket: { code: 4012, next: 'token', meaning: 'the resume ticket is expired, forged or made with a retired key' },
  revoked: { code: 4013, next: 'stop', meaning: 'the device was revoked' },
  stale_connection: {
    code: 4020,
    next: 'raise',
    meaning: 'a session with the same or a greater connection number exists',
  },
  replaced: { code: 4021, next: 'stop', meaning: 'the device connected again, with a greater connection number' },
  idle: { code: 4030, next: 'reconnect', meaning: 'nothing came for longer than the keepalive interval allows' },
  too_slow: { code: 4031, next: 'reconnect', meaning: 'the device does not read what is sent to it' },
  rate_limited: { code: 4032, next: 'reconnect', meaning: 'more frames a second than allowed' },
  overloaded: {
    code: 4040,
    next: 'reconnect',
    meaning: 'the server has no room; an ERROR with retry_after_ms came before',
  },
  unavailable: { code: 4041, next: 'reconnect', meaning: 'a part behind the transport is away' },
  internal: { code: 4050, next: 'reconnect', meaning: 'a fault of the server' },
} as const satisfies Record<string, CloseReason>

export type CloseName = keyof typeof Close

const byCode = new Map<number, CloseName>(Object.entries(Close).map(([name, c]) => [c.code, name as CloseName]))

/** The name of a close code; null where it is not one of ours (1006: the network, or a close forced by the library). */
export function closeName(code: number): CloseName | null {
  return byCode.get(code) ?? null
}
