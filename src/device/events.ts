/** What the connection machine tells whoever drives it. */
import type { Cursor, GapReason } from '../../protocol/frame-types.js'
import type { DeviceError } from './errors.js'
import type { Registration, StoredNotification } from './state/state.js'

export type ConnectionEvent =
  /** WELCOME came: pushes flow. `connection` is this connection's number. */
  | { kind: 'ready'; connection: number; serverTimeMs: number; subscriptions: number; resumed: boolean }
  /** Durable, acknowledged, to be handed over. */
  | { kind: 'notification'; notification: StoredNotification }
  /** Messages that will not come; count 0: unknown how many. */
  | { kind: 'gap'; count: number; reason: GapReason }
  | { kind: 'caughtUp'; cursor: Cursor | null }
  /** The server confirmed a registration. */
  | { kind: 'registered'; registration: Registration }
  /** A REGISTER or SUBSCRIBE has ended: what waits for one may be looked at again. */
  | { kind: 'asked' }
  /** How a command ended, by the tokens of its callers. */
  | { kind: 'answered'; callers: readonly number[]; registration: Registration | null; error: DeviceError | null }
  /** The server asks for a renewed token: the device waits for `renewed` or `renewalRefused`. */
  | { kind: 'renew' }
  /** Something went wrong; where `error.fatal`, the device does not come back by itself. */
  | { kind: 'error'; error: DeviceError }
  /** The connection ended, or an attempt failed; `reconnectAtMs` null: no further attempt. */
  | { kind: 'closed'; code: number; name: string; reconnectAtMs: number | null }
