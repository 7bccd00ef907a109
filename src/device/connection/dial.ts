/** The interface of a device's socket. ws-dial.ts implements it on the `ws` package; the simulation has its own. */

export interface SocketEvents {
  opened(): void
  /** One WebSocket message; the bytes may be reused after the call. */
  received(bytes: Uint8Array): void
  /**
   * The socket closed, or never opened. This is the last event, and it comes once.
   * @param retryAfterMs hint of the HTTP answer that refused the upgrade; 0: no hint.
   */
  closed(code: number, retryAfterMs: number, detail: string): void
}

export interface DeviceSocket {
  send(bytes: Uint8Array): void
  /** Closes the socket in any state. The caller ignores later events. */
  close(code: number, reason: string): void
  pause(): void
  resume(): void
}

/** Opens a socket. Events come only after it has returned. */
export type Dial = (url: string, events: SocketEvents) => DeviceSocket
