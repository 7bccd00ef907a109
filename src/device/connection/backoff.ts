/** When to come back: as a server says, else with full jitter. Pure: time and randomness are arguments. */

export interface BackoffSettings {
  reconnectBaseMs: number
  reconnectCapMs: number
  retryAfterMsMax: number
}

/**
 * For so long after the first attempt that found nobody, further ones do not wait longer and longer. A server that starts
 * anew is back within seconds, and refusing costs it next to nothing; doubling as after an overload keeps some of the
 * devices away long after all others have connected. With waits of one to three times the base everybody has tried within
 * three times the base of its return, and no device more often than once in two on average.
 */
const UNREACHED_MS = 30_000

/**
 * Without a hint an attempt waits a random time between 0 and base * 2^attempts (capped): somebody has to be careful. With
 * a hint of ERROR or Retry-After the server is: it knows how many it can take, and may have given this device a place of
 * its own. So the device comes then, within the base at random (Retry-After counts whole seconds), and the attempt does
 * not count. GOAWAY brings its own jitter and is obeyed as it is.
 */
export class Backoff {
  private attempts = 0
  private floorMs = 0
  private exactAtMs: number | null = null
  /** Since when attempts find nobody; null: the last one found somebody. */
  private unreachedSinceMs: number | null = null

  constructor(
    private readonly settings: BackoffSettings,
    private readonly random: () => number,
  ) {}

  /** ERROR.retry_after_ms or Retry-After: not before so long from now. */
  retryAfter(nowMs: number, afterMs: number): void {
    this.floorMs = Math.max(this.floorMs, nowMs + Math.min(afterMs, this.settings.retryAfterMsMax))
  }

  /** GOAWAY: returns the time at which to come back. */
  goAway(nowMs: number, afterMs: number, jitterMs: number): number {
    const max = this.settings.retryAfterMsMax
    const jitter = jitterMs > 0 ? Math.min(jitterMs, max) : this.settings.reconnectBaseMs
    this.exactAtMs = nowMs + Math.min(afterMs, max) + Math.floor(this.random() * jitter)
    return this.exactAtMs
  }

  /**
   * The time of the next attempt; uses the hints up.
   * @param isReached whether the one before found a server, whatever that said.
   */
  next(nowMs: number, isReached = true): number {
    const exact = this.exactAtMs
    const isHinted = this.floorMs > 0
    const floor = Math.max(this.floorMs, nowMs)
    this.unreachedSinceMs = isReached || isHinted ? null : (this.unreachedSinceMs ?? nowMs)
    this.exactAtMs = null
    this.floorMs = 0
    if (exact !== null) return Math.max(exact, floor)
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

  /** A connection held: the next attempt is a first one again. */
  settled(): void {
    this.attempts = 0
  }
}
