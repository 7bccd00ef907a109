/** The time of the next attempt to connect. Pure: time and randomness are arguments. PROTOCOL.md, "Reconnecting". */

export interface BackoffSettings {
  reconnectBaseMs: number
  reconnectCapMs: number
  retryAfterMsMax: number
}

/**
 * In this time after the first attempt that reaches no server, the wait does not grow. A server that restarts is back within
 * seconds, and a refused connection costs it almost nothing; a doubled wait would keep some devices away long after the
 * others have connected. A wait of one to three times the base means that all devices have tried within three times the
 * base after the server's return, and that a device tries once in twice the base on average.
 */
const UNREACHED_MS = 30_000

/**
 * Without a hint, an attempt waits a random time between 0 and base * 2^attempts, up to the cap (full jitter).
 *
 * A hint of ERROR or Retry-After replaces this wait and does not count as an attempt: the server knows how many devices it
 * can admit, and may have reserved a time for this one. The device adds a random part of the base, because Retry-After is
 * in whole seconds. GOAWAY has its own jitter, so the device uses its time unchanged.
 */
export class Backoff {
  private attempts = 0
  private notBeforeMs = 0
  private goAwayAtMs: number | null = null
  /** Time of the first attempt that reached no server; null: the last attempt reached one. */
  private unreachedSinceMs: number | null = null

  constructor(
    private readonly settings: BackoffSettings,
    private readonly random: () => number,
  ) {}

  /** Takes the hint of ERROR.retry_after_ms or Retry-After. */
  retryAfter(nowMs: number, afterMs: number): void {
    this.notBeforeMs = Math.max(this.notBeforeMs, nowMs + Math.min(afterMs, this.settings.retryAfterMsMax))
  }

  /** Takes the hint of GOAWAY. Returns the time at which the device leaves and reconnects. */
  goAway(nowMs: number, afterMs: number, jitterMs: number): number {
    const max = this.settings.retryAfterMsMax
    const jitter = jitterMs > 0 ? Math.min(jitterMs, max) : this.settings.reconnectBaseMs
    this.goAwayAtMs = nowMs + Math.min(afterMs, max) + Math.floor(this.random() * jitter)
    return this.goAwayAtMs
  }

  /**
   * Returns the time of the next attempt, and forgets the hints.
   * @param isReached whether the last attempt reached a server, even one that refused it.
   */
  next(nowMs: number, isReached = true): number {
    const goAwayAtMs = this.goAwayAtMs
    const isHinted = this.notBeforeMs > 0
    const floor = Math.max(this.notBeforeMs, nowMs)
    this.unreachedSinceMs = isReached || isHinted ? null : (this.unreachedSinceMs ?? nowMs)
    this.goAwayAtMs = null
    this.notBeforeMs = 0
    if (goAwayAtMs !== null) return Math.max(goAwayAtMs, floor)
    const { reconnectBaseMs, reconnectCapMs } = this.settings
    if (isHinted) return floor + Math.floor(this.random() * reconnectBaseMs)
    if (this.unreachedSinceMs !== null && nowMs - this.unreachedSinceMs < UNREACHED_MS) {
      const waitMs = reconnectBaseMs + this.random() * 2 * reconnectBaseMs
      return nowMs + Math.floor(Math.min(waitMs, reconnectCapMs))
    }
    const spread = Math.min(reconnectCapMs, reconnectBaseMs * 2 ** Math.min(this.attempts, 30))
    this.attempts++
    return floor + Math.floor(this.random() * spread)
  }

  /** A connection was stable, so the count of attempts starts again. */
  settled(): void {
    this.attempts = 0
  }
}
