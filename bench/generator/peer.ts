/** One connection of a generator, and the few numbers that a dialect keeps. */
import type { Reconnect } from '../../src/device/connection/reconnect.js'
import { TcpConnection, type TcpOwner, type TcpTarget } from './tcp.js'

export const State = {
  IDLE: 0,
  WAITING: 1,
  CONNECTING: 2,
  UPGRADING: 3,
  /** The WebSocket is open. */
  OPENED: 4,
  /** WELCOME came, where there is such a thing. */
  GREETED: 5,
  /** Caught up. */
  READY: 6,
} as const

export class Peer {
  state: number = State.IDLE
  socket: LoadSocket | null = null
  /** Bytes of an unfinished frame. OptionalState, so that it costs nothing to the others. */
  rest: Buffer | null = null
  /** The same for packets of a dialect that may be cut by messages. */
  tail: Buffer | null = null
  /** We are the ones who close. */
  leaving = false
  startedAtMicros = 0
  /** The product's rules of coming back; null: nothing happened that they would have to remember. */
  reconnect: Reconnect | null = null
  /** WAITING: when to try; READY: when to leave, as GOAWAY asked (0: it did not). Milliseconds of performance.now(). */
  dueAtMs = 0
  /** Of the close frame that came last; 0: none. */
  closeCode = 0
  /** How often it tried to connect. */
  dials = 0
  /** Number of the connection, raised before each. */
  connection = 0
  /** Last group message that came, by its place in the log. */
  groupSequence = 0
  /** Version of the subscriptions, from WELCOME. */
  subscriptions = 0

  constructor(
    /** Position in this generator. */
    readonly slot: number,
    /** Number of the device in the whole run. */
    readonly index: number,
  ) {}

  send(bytes: Uint8Array): void {
    this.socket?.write(bytes)
  }
}

export class LoadSocket extends TcpConnection {
  constructor(
    readonly peer: Peer,
    owner: TcpOwner,
    target: TcpTarget,
  ) {
    super(owner, target)
  }
}
