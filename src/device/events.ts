/** The events that the connection machine emits. */
import type { Cursor, GapReason } from '../../protocol/frame-types.js'
import type { DeviceError } from './errors.js'
import type { Registration, StoredNotification } from './state/state.js'

export type ConnectionEvent =
  /** WELCOME arrived. `connection` is the connection number. */
  | { kind: 'ready'; connection: number; serverTimeMs: number; subscriptions: number; resumed: boolean }
  /** A notification is durable and acknowledged, and can be handed over. */
  | { kind: 'notification'; notification: StoredNotification }
  /** Messages were lost; count 0: the server does not know how many. */
  | { kind: 'gap'; count: number; reason: GapReason }
  | { kind: 'caughtUp'; cursor: Cursor | null }
  /** The server confirmed a registration. */
  | { kind: 'registered'; registration: Registration }
  /** A REGISTER or SUBSCRIBE has ended. Notifications that are held for its answer can be checked again. */
  | { kind: 'registeringEnded' }
  /** A command has ended. `callers`: the numbers that its callers passed to `request()`. */
  | { kind: 'commandEnded'; callers: readonly number[]; registration: Registration | null; error: DeviceError | null }
  /** The server requires a new token. The machine waits for `renewed()` or `renewalRefused()`. */
  | { kind: 'renew' }
  /** If `error.fatal` is true, the device does not reconnect. */
  | { kind: 'error'; error: DeviceError }
  /** The connection ended, or an attempt to connect failed; `reconnectAtMs` null: there is no further attempt. */
  | { kind: 'closed'; code: number; name: string; reconnectAtMs: number | null }
