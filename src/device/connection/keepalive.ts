/**
 * Decides when the device sends a keepalive, and when a connection counts as half open. The device sends an empty message
 * when either side has been silent for the interval; if no bytes arrive after it, the connection is half open. Both sides
 * count: the server needs to hear from the device, and requests that the device repeats on a dead connection must not
 * postpone the keepalive. Pure.
 */

export type KeepaliveDue = 'ping' | 'half_open'

/** The device waits a random share of the server's interval, at least this one, so that fleets do not ping in step. */
const INTERVAL_SHARE_MIN = 0.8

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
  /** Empty messages sent without an empty message in return. It can exceed 1: any bytes end the wait for an answer. */
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

  /** The device sent a frame. */
  sent(nowMs: number): void {
    this.sentAtMs = nowMs
  }

  pinged(nowMs: number): void {
    this.sent(nowMs)
    this.draw()
    this.unanswered++
    this.answerDueMs = nowMs + this.settings.pongTimeoutMs
  }

  /** The device received bytes. */
  heard(nowMs: number): void {
    this.heardAtMs = nowMs
    this.answerDueMs = null
  }

  /** The device received an empty message. False: it answers no ping. */
  answered(): boolean {
    if (this.unanswered === 0) return false
    this.unanswered--
    return true
  }

  /** The device stops reading, so the deadline for the answer is suspended. */
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
    this.waitMs = Math.floor(this.intervalMs * (INTERVAL_SHARE_MIN + (1 - INTERVAL_SHARE_MIN) * this.random()))
  }
}
