/** Time, address and connection number of the next attempt to connect. PROTOCOL.md, "Reconnecting" and "HELLO". */
import type { ErrorFrame, GoawayFrame } from '../../../protocol/frame-types.js'
import { Backoff, type BackoffSettings } from './backoff.js'

/**
 * PROTOCOL.md, "HELLO": if the server refuses a connection number as stale and does not give the greater number, the n-th
 * refusal in a row raises it by 16^n. The last step, 16^13, is half of all connection numbers.
 */
const STALE_STEP = 16
const STALE_STEPS_MAX = 13

export class Reconnect {
  private readonly backoff: Backoff
  private currentUrl: string
  /** Address of the next connection. */
  private followingUrl: string
  /** Address of the latest GOAWAY on this connection; null: no GOAWAY arrived. */
  private goAwayUrl: string | null = null
  /** Refusals as stale since the last WELCOME. */
  private staleCount = 0
  /** The next connection number must be greater than this one. */
  private raiseAbove = 0
  /** Whether the current attempt reached a server. */
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

  /** Returns the time at which the device leaves and reconnects. A later GOAWAY replaces an earlier one. */
  goAway(nowMs: number, { afterMs, jitterMs, url }: Pick<GoawayFrame, 'afterMs' | 'jitterMs' | 'url'>): number {
    this.goAwayUrl = isSafeRedirect(this.currentUrl, url) ? url : this.currentUrl
    return this.backoff.goAway(nowMs, afterMs, jitterMs)
  }

  serverError(nowMs: number, { retryAfterMs, connection }: ErrorFrame): void {
    this.retryAfter(nowMs, retryAfterMs)
    this.raiseAbove = Math.max(this.raiseAbove, connection)
  }

  /** @param afterMs 0: no hint. */
  retryAfter(nowMs: number, afterMs: number): void {
    if (afterMs > 0) this.backoff.retryAfter(nowMs, afterMs)
  }

  /** The server refused the connection number as stale. If it did not give the greater number, the steps grow. */
  refusedAsStale(connection: number): void {
    this.staleCount++
    if (this.raiseAbove >= connection) return
    this.raiseAbove = connection + STALE_STEP ** Math.min(this.staleCount, STALE_STEPS_MAX) - 1
  }

  welcomed(): void {
    this.staleCount = 0
  }

  /**
   * A connection or an attempt ended. If it failed before WELCOME, the next attempt uses the configured address.
   * @param wasOpened whether the WebSocket opened.
   */
  ended(wasWelcomed: boolean, wasOpened: boolean): void {
    this.isReached = wasOpened
    const next = this.goAwayUrl ?? this.currentUrl
    this.followingUrl = !wasWelcomed && next === this.currentUrl ? this.configuredUrl : next
    this.goAwayUrl = null
  }

  /** The connection was stable, so the count of attempts starts again. */
  settled(): void {
    this.backoff.settled()
  }

  /** Returns the time of the next attempt, and forgets the hints of the server. */
  nextAtMs(nowMs: number): number {
    return this.backoff.next(nowMs, this.isReached)
  }

  /** The number of the next connection; null: all numbers are used up. */
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

/** A server may redirect a device to another address, but not from wss to ws. */
function isSafeRedirect(from: string, to: string): boolean {
  if (!URL.canParse(to)) return false
  const { protocol } = new URL(to)
  return protocol === 'wss:' || (protocol === 'ws:' && from.startsWith('ws:'))
}
