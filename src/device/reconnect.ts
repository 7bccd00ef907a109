/** How the device comes back: when, where, and with which connection number. PROTOCOL.md, "Reconnecting" and "HELLO". */
import type { ErrorFrame, GoawayFrame } from '../../protocol/frame-types.js'
import { Backoff, type BackoffSettings } from './backoff.js'

export class Reconnect {
  private readonly backoff: Backoff
  /** Where GOAWAY sent the device: for the next attempt only. */
  private redirect: string | null = null
  /** Refusals as stale since the last WELCOME, and the number that was in the way. */
  private staleCount = 0
  private raiseAbove = 0

  constructor(
    settings: BackoffSettings,
    random: () => number,
    private readonly configuredUrl: string,
  ) {
    this.backoff = new Backoff(settings, random)
  }

  /** Returns the time at which to leave and come back. */
  goAway(nowMs: number, { afterMs, jitterMs, url }: GoawayFrame): number {
    if (url !== '' && isSafeRedirect(this.configuredUrl, url)) this.redirect = url
    return this.backoff.goAway(nowMs, afterMs, jitterMs)
  }

  serverError(nowMs: number, { retryAfterMs, connection }: ErrorFrame): void {
    this.retryAfter(nowMs, retryAfterMs)
    this.raiseAbove = Math.max(this.raiseAbove, connection)
  }

  /** 0: no hint. */
  retryAfter(nowMs: number, afterMs: number): void {
    if (afterMs > 0) this.backoff.retryAfter(nowMs, afterMs)
  }

  /** Closed as stale: where the server did not say what is in the way, the steps grow until one is over it. */
  refusedAsStale(connection: number): void {
    this.staleCount++
    this.raiseAbove = Math.max(this.raiseAbove, connection + 2 ** Math.min(this.staleCount, 52) - 1)
  }

  welcomed(): void {
    this.staleCount = 0
  }

  /** The connection held: the next attempt is a first one again. */
  settled(): void {
    this.backoff.settled()
  }

  /** When to try next. */
  nextAtMs(nowMs: number): number {
    return this.backoff.next(nowMs)
  }

  /** The number of the next connection; null: there is none left. */
  nextNumber(connection: number): number | null {
    const next = Math.max(connection, this.raiseAbove) + 1
    this.raiseAbove = 0
    return Number.isSafeInteger(next) ? next : null
  }

  nextUrl(): string {
    const url = this.redirect ?? this.configuredUrl
    this.redirect = null
    return url
  }
}

/** A server may name another address, never a weaker transport. */
function isSafeRedirect(from: string, to: string): boolean {
  if (!URL.canParse(to)) return false
  const { protocol } = new URL(to)
  return protocol === 'wss:' || (protocol === 'ws:' && from.startsWith('ws:'))
}
