/** One connection of a generator: a socket without streams' buffers, and the few numbers that a dialect keeps. */
import { Socket, type SocketConstructorOpts } from 'node:net'

export const State = { IDLE: 0, WAITING: 1, CONNECTING: 2, UPGRADING: 3, OPENED: 4, READY: 5 } as const

export class Peer {
  state: number = State.IDLE
  socket: LoadSocket | null = null
  /** Bytes of an unfinished frame. Rare, so that it costs nothing to the others. */
  rest: Buffer | null = null
  /** The same for packets of a dialect that may be cut by messages. */
  tail: Buffer | null = null
  /** We are the ones who close. */
  leaving = false
  startedAtMicros = 0
  /** Attempts since it was last ready. */
  attempts = 0
  /** From a hint of the server; 0: none. */
  retryAfterMs = 0
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

/** Every socket of a process reads into this one buffer: a read is handled before the next begins. */
const SHARED_BYTES = 256 * 1024
const shared = Buffer.allocUnsafeSlow(SHARED_BYTES)

export interface SocketOwner {
  read(peer: Peer, bytes: Buffer, count: number): void
}

export class LoadSocket extends Socket {
  constructor(
    readonly peer: Peer,
    readonly owner: SocketOwner,
  ) {
    // The constructor takes `onread` as connect() does; only its declaration does not know.
    super({ onread: { buffer: shared, callback: onRead } } as SocketConstructorOpts)
  }
}

/** One function for all: node calls it as a method of the socket. */
function onRead(this: unknown, count: number): boolean {
  const { owner, peer } = this as LoadSocket
  owner.read(peer, shared, count)
  return true
}
