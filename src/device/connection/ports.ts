/** The options of the connection machine, and the interface of its effects, which a driver implements. */
import type { ClientInfo } from '../../../protocol/frame-types.js'
import type { ConnectionEvent } from '../events.js'
import type { DeviceSettings } from '../settings.js'
import type { Change } from '../state/state.js'

export type ConnectionState = 'idle' | 'raising' | 'connecting' | 'greeting' | 'live' | 'waiting' | 'stopped'

export interface ConnectionOptions {
  /** Address of the transport: ws:// or wss://. */
  url: string
  client: ClientInfo
  settings: DeviceSettings
  random: () => number
  /** True: the device renews its token after a `renew` event. False: an expired token stops the device. */
  renews?: boolean
}

/** Only `persist` and `event` may call the machine back before they return. */
export interface Sink {
  /** Opens a socket. The driver reports no further event of the earlier socket. */
  open(url: string): void
  send(bytes: Uint8Array): void
  /** Closes the socket in any state. The driver reports no further event of it. */
  close(code: number, reason: string): void
  /** Stops reading from the socket. */
  pause(): void
  /** Reads from the socket again. */
  resume(): void
  /**
   * Makes changes durable that are already applied in memory. The driver keeps the order of the calls, and answers each
   * call with `persisted()` or `persistFailed()`.
   */
  persist(changes: readonly Change[]): void
  event(event: ConnectionEvent): void
}
