/**
 * Token buckets by key: so much a second, with a burst. A request is let in while anything is left, whatever it costs, and
 * what it costs too much is owed: so a batch passes a small bucket, and the rate holds all the same.
 */
export interface Rate {
  perSecond: number
  /** What may be taken at once. */
  burst: number
}

export interface Taken {
  /** What is left now; negative: owed. */
  left: number
  /** 0: let in. Else it was not, and nothing was taken: so long until there is something left. */
  waitMs: number
}

export class TokenBuckets {
  /** In order of use: the first is the one to forget. */
  private readonly buckets = new Map<string, { left: number; atMs: number }>()

  /** @param keysMax more are forgotten, and start anew: this protects, and counts nothing. */
  constructor(private readonly keysMax: number) {}

  take(key: string, cost: number, { perSecond, burst }: Rate, nowMs: number): Taken {
    const { left, atMs } = this.buckets.get(key) ?? { left: burst, atMs: nowMs }
    const now = Math.min(burst, left + (Math.max(0, nowMs - atMs) / 1000) * perSecond)
    // Half a message is none; an bucket of less than one at a time still lets one in when it is full.
    const need = Math.min(1, burst)
    const isIn = now >= need
    this.buckets.delete(key)
    // What is refused changes nothing, but for a clock that was set back: its time is no time to wait for.
    this.buckets.set(key, isIn ? { left: now - cost, atMs: nowMs } : { left, atMs: Math.min(atMs, nowMs) })
    if (this.buckets.size > this.keysMax) this.forgetOldest()
    return { left: isIn ? now - cost : now, waitMs: isIn ? 0 : Math.ceil(((need - now) / perSecond) * 1000) }
  }

  private forgetOldest(): void {
    for (const oldest of this.buckets.keys()) {
      this.buckets.delete(oldest)
      return
    }
  }
}
