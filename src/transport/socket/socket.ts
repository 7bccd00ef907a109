/**
 * The sockets of devices as an interface. The room `socket` implements it over uWebSockets.js (listener.ts); the
 * simulation implements it in memory.
 */

/**
 * - `sent`: the kernel has the bytes.
 * - `buffered`: the bytes are kept, because the device reads more slowly than the worker sends.
 * - `dropped`: the buffer is full, or the socket is closed. The bytes will not arrive, and the connection has to end.
 */
export type SendResult = 'sent' | 'buffered' | 'dropped'

/** One open connection. No method throws; after the close they do nothing. */
export interface Socket {
  /** The remote address as text. */
  readonly address: string
  /** The Greeting or the Session of this connection: a pointer here costs less than a Map entry for each connection. */
  owner: unknown
  /** Sends one binary WebSocket message. The caller may reuse the bytes afterwards. */
  send(bytes: Uint8Array): SendResult
  /** The number of buffered bytes. */
  buffered(): number
  /** Closes with a code. `closed` of the handlers is called before this returns. */
  end(code: number, reason: string): void
  /** Joins a topic of Sockets.publish. */
  subscribe(topic: string): void
  unsubscribe(topic: string): void
  /** The topics that the socket has joined. */
  topics(): string[]
}

/** Events of the sockets. The handlers are called synchronously and must not throw. */
export interface SocketHandlers {
  /** Called before an upgrade. A number refuses it: 503 with that number as Retry-After, in seconds. */
  admit(address: string): number | null
  /** A peer sent a PROXY header without being trusted to; its connection is refused. */
  distrusted(peer: string): void
  opened(socket: Socket): void
  /** The bytes are valid until the handler returns. */
  message(socket: Socket, bytes: Uint8Array, isBinary: boolean): void
  /** Buffered bytes were sent. */
  drained(socket: Socket): void
  /** Called once for each opened socket. Code 1006: there was no close frame, or a limit ended the connection. */
  closed(socket: Socket, code: number): void
}

export interface Sockets {
  /** Begins to accept connections. Resolves with the port. */
  listen(handlers: SocketHandlers): Promise<number>
  /** Accepts no more connections. Open ones stay. */
  stopListening(): void
  /** Accepts connections again after `stopListening`, on the same port. Rejects if it cannot listen. */
  listenAgain(): Promise<void>
  /**
   * Sends to every subscriber of the topic, in order with the other sends to it, and returns their number. A subscriber
   * whose buffer is full is closed. `bytesOf` is called if there is a subscriber.
   */
  publish(topic: string, bytesOf: () => Uint8Array): number
  /** Ends all connections, without a close frame. */
  close(): void
}
