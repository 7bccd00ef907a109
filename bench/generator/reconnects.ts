/**
 * Decides when devices reconnect, with the rules of the device library (src/device/connection/reconnect.ts), so that a
 * crowd in bench behaves like a crowd of real devices. A peer has a state of these rules only from a disturbance until its
 * next connection proves stable.
 */
import { Close, closeName } from '../../protocol/close-codes.js'
import type { ErrorFrame, GoawayFrame } from '../../protocol/frame-types.js'
import { Reconnect } from '../../src/device/connection/reconnect.js'
import { type DeviceSettings, deviceSettings } from '../../src/device/settings.js'
import type { Peer } from './peer.js'

export class Reconnects {
  readonly #settings: DeviceSettings = deviceSettings()

  /** `url`: the only address of a generator. The dialect ignores another address in a GOAWAY. */
  constructor(
    private readonly url: string,
    private readonly random: () => number = Math.random,
  ) {}

  get stableMs(): number {
    return this.#settings.stableMs
  }

  /** Longest time from connect to WELCOME. */
  get greetedMsMax(): number {
    return this.#settings.connectTimeoutMs + this.#settings.welcomeTimeoutMs
  }

  /** Resolves a GOAWAY to the time at which the device leaves. */
  goAway(peer: Peer, nowMs: number, frame: GoawayFrame): number {
    return this.#of(peer).goAway(nowMs, frame)
  }

  serverError(peer: Peer, nowMs: number, frame: ErrorFrame): void {
    if (frame.request === 0) this.#of(peer).serverError(nowMs, frame)
  }

  /** Notes the Retry-After of a refused upgrade. */
  retryAfter(peer: Peer, nowMs: number, afterMs: number): void {
    this.#of(peer).retryAfter(nowMs, afterMs)
  }

  nextNumber(peer: Peer): number {
    const next = peer.reconnect === null ? peer.connection + 1 : peer.reconnect.nextNumber(peer.connection)
    if (next === null) throw new RangeError('no connection number is left')
    return next
  }

  /** Notes a WELCOME. True: the caller has to call settled() after `stableMs`. */
  welcomed(peer: Peer): boolean {
    peer.reconnect?.welcomed()
    return peer.reconnect !== null
  }

  /** The connection proved stable, so the rules start afresh. */
  settled(peer: Peer): void {
    peer.reconnect = null
  }

  /** Time of the next attempt; null: the close code tells a device to stay away. */
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
