/**
 * Keepalive as the device drives it: an empty message after silence of either side; silence of the server after that is
 * half open. Of either: what the device sends tells the server that it lives, and only what it hears tells the device
 * anything. A request that is repeated into a dead connection must not put the ping off. Pure.
 */

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
  private heardAtMs = 0
  private waitMs = 0
  private answerDueMs: number | null = null
  private paused = false
  /** Pings whose own answer has not come yet: other bytes may have come meanwhile, and another ping gone out. */
  private unanswered = 0

  constructor(
    private readonly settings: KeepaliveSettings,
    private readonly random: () => number,
  ) {}

  start(nowMs: number, intervalSeconds: number): void {
    const { keepaliveMsMin, keepaliveMsMax } = this.settings
    this.intervalMs = Math.min(Math.max(intervalSeconds * 1_000, keepaliveMsMin), keepaliveMsMax)
    this.paused = false
    this.unanswered = 0
    this.sent(nowMs)
    this.heard(nowMs)
    this.draw()
  }

  /** Any frame went out. */
  sent(nowMs: number): void {
    this.sentAtMs = nowMs
  }

  pinged(nowMs: number): void {
    this.sent(nowMs)
    this.draw()
    this.unanswered++
    this.answerDueMs = nowMs + this.settings.pongTimeoutMs
  }

  /** Any bytes came. */
  heard(nowMs: number): void {
    this.heardAtMs = nowMs
    this.answerDueMs = null
  }

  /** An empty message came. False: nobody asked for one. */
  answered(): boolean {
    if (this.unanswered === 0) return false
    this.unanswered--
    return true
  }

  /** While the device does not read, nothing can come. */
  pause(): void {
    this.paused = true
  }

  resume(nowMs: number): void {
    this.paused = false
    this.heardAtMs = nowMs
    if (this.answerDueMs !== null) this.answerDueMs = nowMs + this.settings.pongTimeoutMs
  }

  nextAtMs(): number {
    if (this.answerDueMs === null) return Math.min(this.sentAtMs, this.heardAtMs) + this.waitMs
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
