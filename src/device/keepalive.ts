/** Keepalive as the device drives it: a PING after silence of its own; silence of the server after that is half open. Pure. */

export type KeepaliveDue = 'ping' | 'half_open'

/** Share of the server's interval below which a device never waits: the jitter that keeps fleets apart. */
const EARLIEST = 0.8

export interface KeepaliveSettings {
  pongTimeoutMs: number
  keepaliveMsMin: number
  keepaliveMsMax: number
}

export class Keepalive {
  private intervalMs = 0
  private sentAtMs = 0
  private waitMs = 0
  private answerDueMs: number | null = null
  private paused = false

  constructor(
    private readonly settings: KeepaliveSettings,
    private readonly random: () => number,
  ) {}

  start(nowMs: number, intervalSeconds: number): void {
    const { keepaliveMsMin, keepaliveMsMax } = this.settings
    this.intervalMs = Math.min(Math.max(intervalSeconds * 1_000, keepaliveMsMin), keepaliveMsMax)
    this.paused = false
    this.answerDueMs = null
    this.sent(nowMs)
    this.draw()
  }

  /** Any frame went out. */
  sent(nowMs: number): void {
    this.sentAtMs = nowMs
  }

  pinged(nowMs: number): void {
    this.sent(nowMs)
    this.draw()
    this.answerDueMs = nowMs + this.settings.pongTimeoutMs
  }

  /** Any bytes came. */
  heard(): void {
    this.answerDueMs = null
  }

  /** While the device does not read, nothing can come. */
  pause(): void {
    this.paused = true
  }

  resume(nowMs: number): void {
    this.paused = false
    if (this.answerDueMs !== null) this.answerDueMs = nowMs + this.settings.pongTimeoutMs
  }

  nextAtMs(): number {
    if (this.answerDueMs === null) return this.sentAtMs + this.waitMs
    return this.paused ? Number.POSITIVE_INFINITY : this.answerDueMs
  }

  due(nowMs: number): KeepaliveDue | null {
    if (nowMs < this.nextAtMs()) return null
    return this.answerDueMs === null ? 'ping' : 'half_open'
  }

  private draw(): void {
    this.waitMs = Math.floor(this.intervalMs * (EARLIEST + (1 - EARLIEST) * this.random()))
  }
}
