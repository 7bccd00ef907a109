/** How the device comes back: when, where, and with which connection number. PROTOCOL.md, "Reconnecting" and "HELLO". */
import type { ErrorFrame, GoawayFrame } from '../../../protocol/frame-types.js'
import { Backoff, type BackoffSettings } from './backoff.js'

/** PROTOCOL.md, "HELLO": the n-th refusal in a row that tells no number raises by 16^n; 16^13 is over half of all. */
const STALE_STEP = 16
const STALE_STEPS_MAX = 13

export class Reconnect {
  private readonly backoff: Backoff
  /** Where the connection of now goes to, and the next one. */
  private currentUrl: string
  private followingUrl: string
  /** What the latest GOAWAY of this connection named; null: none came. */
  private goAwayUrl: string | null = null
  /** Refusals as stale since the last WELCOME, and the number that was in the way. */
  private staleCount = 0
  private raiseAbove = 0
  /** Whether the attempt of now found a server. */
  private isReached = true

  constructor(
    settings: BackoffSettings,
    random: () => number,
    private readonly configuredUrl: string,
  ) {
    this.backoff = new Backoff(settings, random)
    this.currentUrl = configuredUrl
    this.followingUrl = configuredUrl
  }

  /** Returns the time at which to leave and come back. A second one takes the place of the first. */
  goAway(nowMs: number, { afterMs, jitterMs, url }: Pick<GoawayFrame, 'afterMs' | 'jitterMs' | 'url'>): number {
    this.goAwayUrl = isSafeRedirect(this.currentUrl, url) ? url : this.currentUrl
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
    if (this.raiseAbove >= connection) return
    this.raiseAbove = connection + STALE_STEP ** Math.min(this.staleCount, STALE_STEPS_MAX) - 1
  }

  welcomed(): void {
    this.staleCount = 0
  }

  /**
   * A connection or an attempt ended: an address that does not greet is not tried again.
   * @param wasOpened whether there was a WebSocket at all.
   */
  ended(wasWelcomed: boolean, wasOpened: boolean): void {
    this.isReached = wasOpened
    const next = this.goAwayUrl ?? this.currentUrl
    this.followingUrl = !wasWelcomed && next === this.currentUrl ? this.configuredUrl : next
    this.goAwayUrl = null
  }

  /** The connection held: the next attempt is a first one again. */
  settled(): void {
    this.backoff.settled()
  }

  /** When to try next. */
  nextAtMs(nowMs: number): number {
    return this.backoff.next(nowMs, this.isReached)
  }

  /** The number of the next connection; null: there is none left. */
  nextNumber(connection: number): number | null {
    const next = Math.max(connection, this.raiseAbove) + 1
    this.raiseAbove = 0
    return Number.isSafeInteger(next) ? next : null
  }

  nextUrl(): string {
    this.isReached = true
    this.currentUrl = this.followingUrl
    return this.currentUrl
  }
}

/** A server may name another address, never a weaker transport. */
function isSafeRedirect(from: string, to: string): boolean {
  if (!URL.canParse(to)) return false
  const { protocol } = new URL(to)
  return protocol === 'wss:' || (protocol === 'ws:' && from.startsWith('ws:'))
}
