/** Keepalive as the device drives it: a PING after silence of its own, and no PONG in time means half open. Pure. */

export type KeepaliveDue = 'ping' | 'half_open'

/** Share of the server's interval below which a device never waits: the jitter that keeps fleets apart. */
const EARLIEST = 0.75

export class Keepalive {
  private sentAtMs = 0
  private waitMs = 0
  private pongDueMs: number | null = null
  private paused = false

  constructor(
    private readonly pongTimeoutMs: number,
    private readonly random: () => number,
  ) {}

  start(nowMs: number, intervalMs: number): void {
    this.paused = false
    this.pongDueMs = null
    this.sentAtMs = nowMs
    this.waitMs = Math.floor(intervalMs * (EARLIEST + (1 - EARLIEST) * this.random()))
  }

  /** Any frame went out. */
  sent(nowMs: number): void {
    this.sentAtMs = nowMs
  }

  pinged(nowMs: number): void {
    this.sentAtMs = nowMs
    this.pongDueMs = nowMs + this.pongTimeoutMs
  }

  pong(): void {
    this.pongDueMs = null
  }

  /** While the device does not read, a PONG cannot arrive. */
  pause(): void {
    this.paused = true
  }

  resume(nowMs: number): void {
    this.paused = false
    if (this.pongDueMs !== null) this.pongDueMs = nowMs + this.pongTimeoutMs
  }

  nextAtMs(): number {
    if (this.pongDueMs === null) return this.sentAtMs + this.waitMs
    return this.paused ? Number.POSITIVE_INFINITY : this.pongDueMs
  }

  due(nowMs: number): KeepaliveDue | null {
    if (nowMs < this.nextAtMs()) return null
    return this.pongDueMs === null ? 'ping' : 'half_open'
  }
}
