/**
 * Token buckets by key: a rate for each second, and a burst. A request passes while its bucket holds anything, whatever the
 * request costs; the bucket then owes the excess. So a large batch passes a small bucket, and the rate still holds.
 *
 * This is our own code, because rate limiters for Node refuse a request that costs more than its bucket holds.
 */
import { evictOldest, setNewest } from '../../collections.js'

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
  /** Least recently used first. */
  private readonly buckets = new Map<string, { left: number; atMs: number }>()

  /** @param keysMax beyond it the bucket that was not used for longest is forgotten, and starts full again. */
  constructor(private readonly keysMax: number) {}

  take(key: string, cost: number, { perSecond, burst }: Rate, nowMs: number): TakeResult {
    const { left, atMs } = this.buckets.get(key) ?? { left: burst, atMs: nowMs }
    const now = Math.min(burst, left + (Math.max(0, nowMs - atMs) / 1000) * perSecond)
    // Half a message is none. A bucket that holds less than one message lets one pass when it is full.
    const need = Math.min(1, burst)
    const passes = now >= need
    // A refused request changes nothing, except after the clock was set back: nobody waits for the old time to return.
    setNewest(this.buckets, key, passes ? { left: now - cost, atMs: nowMs } : { left, atMs: Math.min(atMs, nowMs) })
    evictOldest(this.buckets, this.keysMax)
    return { left: passes ? now - cost : now, waitMs: passes ? 0 : Math.ceil(((need - now) / perSecond) * 1000) }
  }
}
