/**
 * When devices come back: the product's own rules (src/device/connection/reconnect.ts), so that a storm in bench is the storm that
 * devices make. Their memory is kept only for those to whom something happened, and until their connection held.
 */
import { Close, closeName } from '../../protocol/close-codes.js'
import type { ErrorFrame, GoawayFrame } from '../../protocol/frame-types.js'
import { Reconnect } from '../../src/device/connection/reconnect.js'
import { type DeviceSettings, deviceSettings } from '../../src/device/settings.js'
import type { Peer } from './peer.js'

export class Returns {
  readonly #settings: DeviceSettings = deviceSettings()

  /** All of a generator go to one address: what a GOAWAY names besides is not followed. */
  constructor(
    private readonly url: string,
    private readonly random: () => number = Math.random,
  ) {}

  get stableMs(): number {
    return this.#settings.stableMs
  }

  /** From the connect, until a connection that did not greet is given up. */
  get greetedMsMax(): number {
    return this.#settings.connectTimeoutMs + this.#settings.welcomeTimeoutMs
  }

  /** When to leave. */
  goAway(peer: Peer, nowMs: number, frame: GoawayFrame): number {
    return this.#of(peer).goAway(nowMs, frame)
  }

  serverError(peer: Peer, nowMs: number, frame: ErrorFrame): void {
    if (frame.request === 0) this.#of(peer).serverError(nowMs, frame)
  }

  /** Of an answer that refused the upgrade. */
  retryAfter(peer: Peer, nowMs: number, afterMs: number): void {
    this.#of(peer).retryAfter(nowMs, afterMs)
  }

  nextNumber(peer: Peer): number {
    const next = peer.reconnect === null ? peer.connection + 1 : peer.reconnect.nextNumber(peer.connection)
    if (next === null) throw new RangeError('no connection number is left')
    return next
  }

  /** True where it is to be settled after `stableMs`. */
  welcomed(peer: Peer): boolean {
    peer.reconnect?.welcomed()
    return peer.reconnect !== null
  }

  /** The connection held: what was remembered is as good as new. */
  settled(peer: Peer): void {
    peer.reconnect = null
  }

  /** When to try again; null: a device would stay away. */
  ended(peer: Peer, nowMs: number, wasWelcomed: boolean, wasOpened = true): number | null {
    const name = closeName(peer.closeCode)
    const move = name ? Close[name].next : 'reconnect'
    peer.closeCode = 0
    if (move === 'stop') return null
    const reconnect = this.#of(peer)
    if (move === 'raise') reconnect.refusedAsStale(peer.connection)
    reconnect.ended(wasWelcomed, wasOpened)
    return reconnect.nextAtMs(nowMs)
  }

  #of(peer: Peer): Reconnect {
    peer.reconnect ??= new Reconnect(this.#settings, this.random, this.url)
    return peer.reconnect
  }
}
