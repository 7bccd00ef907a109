/**
 * The sockets of devices as a port: `listener.ts` implements it over uWebSockets.js, the simulation in memory.
 */

/**
 * - `sent`: with the kernel.
 * - `buffered`: kept; the socket is slower than we are.
 * - `dropped`: over the limit or closed: it will not arrive, and the connection has to end.
 */
export type SendResult = 'sent' | 'buffered' | 'dropped'

/** One open connection. No method throws; after the close they do nothing. */
export interface Socket {
  /** Remote address as text. */
  readonly address: string
  /** Whoever owns the connection keeps its state here: one pointer instead of one map entry a connection. */
  owner: unknown
  /** One binary WebSocket message; the bytes may be reused when it returns. */
  send(bytes: Uint8Array): SendResult
  /** Bytes kept back so far. */
  buffered(): number
  /** Closes with a code; `closed` of the handlers is called before this returns. */
  end(code: number, reason: string): void
  /** Joins a topic of Sockets.publish. */
  subscribe(topic: string): void
  unsubscribe(topic: string): void
  /** What it has joined. */
  topics(): string[]
}

/** What the owner of the sockets is told. Handlers are called synchronously and must not throw. */
export interface SocketHandlers {
  /** Before a connection is upgraded. A number refuses it with 503 and that Retry-After, in seconds. */
  admit(address: string): number | null
  /** A peer that may not claims to speak for another one; it is refused. */
  distrusted(peer: string): void
  opened(socket: Socket): void
  /** `bytes` are gone when the handler returns. */
  message(socket: Socket, bytes: Uint8Array, binary: boolean): void
  /** What was buffered went out. */
  drained(socket: Socket): void
  /** Once for each opened socket, whoever closed it. `code` 1006: without a close frame, or forced by a limit. */
  closed(socket: Socket, code: number): void
}

export interface Sockets {
  /** Accepts connections from now on; resolves with the port. */
  listen(handlers: SocketHandlers): Promise<number>
  /** Accepts no more; open connections stay. */
  refuse(): void
  /** Accepts again, on the same port, after `refuse`. Rejects where it cannot listen. */
  accept(): Promise<void>
  /** To every subscriber of the topic, in order with its `send`s; a subscriber too slow to take it is closed. How many. */
  publish(topic: string, bytes: Uint8Array): number
  /** Drops what is left, without a close frame. */
  close(): void
}
