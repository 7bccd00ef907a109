/**
 * Shares of what a listener has in limited number: connections, and requests in flight. One network takes at most its
 * share, so that a few slow bodies or idle connections from one place leave room to all others.
 *
 * A network is an IPv4 address, or the /64 of an IPv6 address. The /48 around it, which one customer may hold whole, takes
 * at most one and a half shares.
 */
import { networkOf } from './rate-limits.js'

const SITE_SHARES = 1.5

export class AddressShares {
  private readonly counts = new Map<string, number>()

  /** @param sharePercent 100: one network may take all. */
  constructor(
    private readonly max: number,
    private readonly sharePercent: number,
  ) {}

  /** False if the network has its share already; then nothing was taken. */
  take(address: string | undefined): boolean {
    const takers = this.takersOf(address)
    if (takers.some(({ key, most }) => (this.counts.get(key) ?? 0) >= most)) return false
    for (const { key } of takers) this.counts.set(key, (this.counts.get(key) ?? 0) + 1)
    return true
  }

  /** Once for each take that was granted. */
  release(address: string | undefined): void {
    for (const { key } of this.takersOf(address)) {
      const left = (this.counts.get(key) ?? 1) - 1
      if (left > 0) this.counts.set(key, left)
      else this.counts.delete(key)
    }
  }

  private takersOf(address: string | undefined): { key: string; most: number }[] {
    const share = Math.ceil((this.max * this.sharePercent) / 100)
    const network = networkOf(address)
    const groups = network.split(':')
    if (groups.length !== 4) return [{ key: network, most: share }]
    const site = Math.min(this.max, Math.ceil(share * SITE_SHARES))
    return [
      { key: network, most: share },
      { key: `${groups.slice(0, 3).join(':')}::/48`, most: site },
    ]
  }
}
