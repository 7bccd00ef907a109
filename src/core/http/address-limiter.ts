/** So many requests a second from one address, with a burst; cheap, so that it can stand before anything costly. */

/** Addresses remembered at most. Who was forgotten starts anew: the limit protects, and counts nothing. */
const ADDRESSES_MAX = 10_000

export class AddressLimiter {
  /** Requests left and when that was so, in order of use: the first is the one to forget. */
  private readonly buckets = new Map<string, { left: number; atMs: number }>()

  constructor(private readonly limit: { perSecond: number; burst: number }) {}

  /** 0: go on. Else: milliseconds until there is room for one. */
  take(address: string, nowMs: number): number {
    const { perSecond, burst } = this.limit
    const key = networkOf(address)
    const { left, atMs } = this.buckets.get(key) ?? { left: burst, atMs: nowMs }
    const now = Math.min(burst, left + (Math.max(0, nowMs - atMs) / 1000) * perSecond)
    this.buckets.delete(key)
    this.buckets.set(key, { left: now >= 1 ? now - 1 : now, atMs: nowMs })
    if (this.buckets.size > ADDRESSES_MAX) this.forgetOldest()
    return now >= 1 ? 0 : Math.ceil(((1 - now) / perSecond) * 1000)
  }

  private forgetOldest(): void {
    for (const oldest of this.buckets.keys()) {
      this.buckets.delete(oldest)
      return
    }
  }
}

/** Whoever has one address of IPv6 has 2^64 of them. */
function networkOf(address: string): string {
  if (!address.includes(':') || address.includes('.')) return address
  const [head = '', tail] = address.split('::')
  const groups = head.split(':').filter(Boolean)
  const after = tail === undefined ? [] : tail.split(':').filter(Boolean)
  const zeros = tail === undefined ? 0 : 8 - groups.length - after.length
  return [...groups, ...Array<string>(Math.max(0, zeros)).fill('0'), ...after].slice(0, 4).join(':')
}
