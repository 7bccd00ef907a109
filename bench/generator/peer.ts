/** One simulated device of a generator: its connection, and the few numbers that a dialect keeps about it. */
import type { Reconnect } from '../../src/device/connection/reconnect.js'
import { TcpConnection, type TcpOwner, type TcpTarget } from './tcp.js'

export const State = {
  IDLE: 0,
  WAITING: 1,
  CONNECTING: 2,
  UPGRADING: 3,
  /** The WebSocket is open. */
  OPENED: 4,
  /** WELCOME arrived. Only our own protocol has this state. */
  GREETED: 5,
  /** CAUGHT_UP arrived, or the equivalent of another protocol. */
  READY: 6,
} as const

export class Peer {
  state: number = State.IDLE
  socket: LoadSocket | null = null
  /** Bytes of an incomplete WebSocket frame; null for nearly all peers. */
  rest: Buffer | null = null
  /** Bytes of an incomplete packet, for dialects whose packets may be split over WebSocket messages. */
  tail: Buffer | null = null
  /** The generator closes this connection itself. */
  leaving = false
  startedAtMicros = 0
  /** State of the reconnect rules; null: nothing happened that they have to remember. */
  reconnect: Reconnect | null = null
  /**
   * In state WAITING: time of the next attempt. In state READY: time to leave after a GOAWAY; 0: none came. Milliseconds
   * of performance.now().
   */
  dueAtMs = 0
  /** Code of the last close frame; 0: none. */
  closeCode = 0
  /** Number of attempts to connect. */
  dials = 0
  /** Connection number for HELLO, raised before each connection. */
  connection = 0
  /** Position in the log of the last group message. */
  groupSequence = 0
  /** Version of the subscriptions, from WELCOME. */
  subscriptions = 0

  constructor(
    /** Position in this generator. */
    readonly slot: number,
    /** Number of the device in the run. */
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
