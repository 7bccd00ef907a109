/**
 * Token buckets by key: a rate for each second, and a burst. A request passes while its bucket holds anything, whatever the
 * request costs; the bucket then owes the excess. So a large batch passes a small bucket, and the rate still holds.
 */
export interface Rate {
  perSecond: number
  /** The most that can be taken at once. */
  burst: number
}

export interface TakeResult {
  /** The content of the bucket now; negative: it owes. */
  left: number
  /** 0: the request passes. Else nothing was taken, and the bucket holds something again after this time. */
  waitMs: number
}

export class TokenBuckets {
  /** In order of use: the first is forgotten first. */
  private readonly buckets = new Map<string, { left: number; atMs: number }>()

  /** @param keysMax beyond it the bucket that was not used for longest is forgotten, and starts full again. */
  constructor(private readonly keysMax: number) {}

  take(key: string, cost: number, { perSecond, burst }: Rate, nowMs: number): TakeResult {
    const { left, atMs } = this.buckets.get(key) ?? { left: burst, atMs: nowMs }
    const now = Math.min(burst, left + (Math.max(0, nowMs - atMs) / 1000) * perSecond)
    // Half a message is none. A bucket that holds less than one message lets one pass when it is full.
    const need = Math.min(1, burst)
    const passes = now >= need
    this.buckets.delete(key)
    // A refused request changes nothing, except after the clock was set back: nobody waits for the old time to return.
    this.buckets.set(key, passes ? { left: now - cost, atMs: nowMs } : { left, atMs: Math.min(atMs, nowMs) })
    if (this.buckets.size > this.keysMax) this.forgetOldest()
    return { left: passes ? now - cost : now, waitMs: passes ? 0 : Math.ceil(((need - now) / perSecond) * 1000) }
  }

  private forgetOldest(): void {
    for (const oldest of this.buckets.keys()) {
      this.buckets.delete(oldest)
      return
    }
  }
}
