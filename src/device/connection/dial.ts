/** A device's socket as a port: the adapter over `ws` is ws-dial.ts, the simulation has its own. */

export interface SocketEvents {
  opened(): void
  /** One WebSocket message; the bytes may be reused after the call. */
  received(bytes: Uint8Array): void
  /**
   * The socket is gone, or never opened: once, and nothing after it.
   * @param retryAfterMs of the HTTP answer that refused the upgrade; 0: none.
   */
  closed(code: number, retryAfterMs: number, detail: string): void
}

export interface DeviceSocket {
  send(bytes: Uint8Array): void
  /** Closes in any state; events may still come and are not listened to. */
  close(code: number, reason: string): void
  pause(): void
  resume(): void
}

/** Opens a socket; no event comes before this returned. */
export type Dial = (url: string, events: SocketEvents) => DeviceSocket
