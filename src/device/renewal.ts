/**
 * Renews the device token by itself: at the time that was drawn for this token, or at once where the server asks for it.
 * Attempts that fail are repeated with the waits of PROTOCOL.md, "Reconnecting". The new token reaches the connection by
 * `renewed`, which makes it durable before a HELLO shows it.
 */
import type { Clock } from '../clock.js'
import { renew } from './enrol.js'
import { DeviceError } from './errors.js'
import type { DeviceSettings } from './settings.js'
import type { Identity } from './state/state.js'

export type Renew = typeof renew

export interface RenewalPorts {
  clock: Clock
  random: () => number
  settings: Pick<DeviceSettings, 'reconnectBaseMs' | 'reconnectCapMs' | 'retryAfterMsMax'>
  /** The identity of now; null: none. */
  identity(): Identity | null
  /** What to add to the local clock for the server's. */
  clockOffsetMs(): number
  renew?: Renew
}

export interface RenewalEvents {
  /** A time for the renewal was drawn, to be made durable. */
  drawn(identity: Identity): void
  renewed(identity: Identity): void
  /** For good. `isAsked`: the server takes no connection before a renewal. */
  refused(error: DeviceError, isAsked: boolean): void
  failed(error: DeviceError): void
}

/** Timers of Node reach 24 days: longer waits are looked at again in between. */
const LOOK_MS = 6 * 3_600_000
/** Least time from a renewal to the next one: a clock that is wrong, here or there, must not make a loop of them. */
const AGAIN_MS = 60_000
/** A token that does not say when to renew is renewed in the last quarter of the time that is left. */
const QUARTER = 0.25

export class Renewal {
  private cancel: (() => void) | null = null
  private attempts = 0
  private notBeforeMs = 0
  private isUnderWay = false
  private isAsked = false
  private isStopped = false

  constructor(
    private readonly ports: RenewalPorts,
    private readonly on: RenewalEvents,
  ) {}

  /** The server's time is known: looks when the token is to be renewed, from now on. */
  start(): void {
    const identity = this.ports.identity()
    if (this.isStopped || !identity?.core || identity.expiresAtMs === 0) return
    if (identity.renewAtMs === undefined) this.on.drawn({ ...identity, renewAtMs: this.draw(identity.expiresAtMs) })
    this.look()
  }

  /** The server asks for a renewal. Returns false where this device cannot renew. */
  ask(): boolean {
    if (this.isStopped || !this.ports.identity()?.core) return false
    this.isAsked = true
    // A fleet whose tokens ended while the service was away must not come all at once.
    if (!this.isUnderWay) this.schedule(this.spread())
    return true
  }

  stop(): void {
    this.isStopped = true
    this.cancel?.()
    this.cancel = null
  }

  private get nowMs(): number {
    return this.ports.clock.now() + this.ports.clockOffsetMs()
  }

  private draw(expiresAtMs: number): number {
    const leftMs = Math.max(0, expiresAtMs - this.nowMs)
    return Math.floor(expiresAtMs - QUARTER * leftMs * (1 - this.ports.random()))
  }

  private look(): void {
    const renewAtMs = this.ports.identity()?.renewAtMs
    if (renewAtMs === undefined || this.isUnderWay || this.isAsked) return
    const waitMs = Math.max(renewAtMs - this.nowMs, this.notBeforeMs - this.ports.clock.now())
    if (waitMs <= 0) void this.attempt()
    else this.schedule(Math.min(waitMs, LOOK_MS), () => this.look())
  }

  private schedule(waitMs: number, work: () => void = () => void this.attempt()): void {
    this.cancel?.()
    this.cancel = this.ports.clock.after(waitMs, () => {
      this.cancel = null
      work()
    })
  }

  private async attempt(): Promise<void> {
    const { identity: read, random } = this.ports
    const identity = read()
    if (this.isStopped || this.isUnderWay || !identity?.core) return
    this.isUnderWay = true
    let renewed: Identity | null = null
    let error: DeviceError | null = null
    try {
      renewed = await (this.ports.renew ?? renew)({ identity, core: identity.core, random })
    } catch (cause) {
      error = cause instanceof DeviceError ? cause : new DeviceError('renew_unreachable', String(cause), { cause })
    }
    this.isUnderWay = false
    if (this.isStopped) return
    if (renewed) this.succeeded(renewed)
    else if (error?.code === 'renew_refused') this.on.refused(error, this.isAsked)
    else if (error) {
      this.on.failed(error)
      this.schedule(Math.min(error.retryAfterMs, this.ports.settings.retryAfterMsMax) + this.spread())
    }
  }

  private succeeded(renewed: Identity): void {
    this.attempts = 0
    this.isAsked = false
    this.notBeforeMs = this.ports.clock.now() + AGAIN_MS
    this.on.renewed(renewed)
    this.start()
  }

  private spread(): number {
    const { random, settings } = this.ports
    const ceilingMs = Math.min(settings.reconnectCapMs, settings.reconnectBaseMs * 2 ** Math.min(this.attempts++, 30))
    return Math.floor(random() * ceilingMs)
  }
}
