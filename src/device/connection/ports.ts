/** What stands around the connection machine: what it is given, and its effects, for a driver to carry out. */
import type { ClientInfo } from '../../../protocol/frame-types.js'
import type { ConnectionEvent } from '../events.js'
import type { DeviceSettings } from '../settings.js'
import type { Change } from '../state/state.js'

export type ConnectionState = 'idle' | 'raising' | 'connecting' | 'greeting' | 'live' | 'waiting' | 'stopped'

export interface ConnectionOptions {
  /** Where the transport listens: ws:// or wss://. */
  url: string
  client: ClientInfo
  settings: DeviceSettings
  random: () => number
  /** Whether `renew` events are answered; else a token that ended is the end. */
  renews?: boolean
}

/** Nothing here may call back into the machine but `persist`, which may confirm at once, and handlers of events. */
export interface Sink {
  /** Opens a socket. Of the one before nothing may be reported any more. */
  open(url: string): void
  send(bytes: Uint8Array): void
  /** Closes the socket, whatever its state; nothing of it may be reported any more. */
  close(code: number, reason: string): void
  /** Stop and start reading from the socket. */
  pause(): void
  resume(): void
  /** Make these (already applied) changes durable, in the order of the calls, each answered by persisted or persistFailed. */
  persist(changes: readonly Change[]): void
  event(event: ConnectionEvent): void
}
