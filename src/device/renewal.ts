/**
 * Renews the device token: at a random time that is drawn once for each token, or at once when the server requires it.
 * A failed attempt is repeated after the waits of PROTOCOL.md, "Reconnecting". The `renewed` callback passes the new token to
 * the connection, which makes it durable before it sends it in HELLO.
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
  /** The current identity; null: the device has none. */
  identity(): Identity | null
  /** Server's clock minus the local clock. */
  clockOffsetMs(): number
  renew?: Renew
}

export interface RenewalEvents {
  /** `identity` has the time of its renewal now, and must be made durable. */
  timeDrawn(identity: Identity): void
  renewed(identity: Identity): void
  /** The core refused the renewal for good. `isRequestedByServer`: the server accepts no connection without a new token. */
  refused(error: DeviceError, isRequestedByServer: boolean): void
  /** An attempt failed, and another one follows. */
  failed(error: DeviceError): void
}

/** Longest timer: Node's timers end after 24 days at most, and the clock may be set in the meantime. */
const TIMER_MS_MAX = 6 * 3_600_000
/** Shortest time between two renewals: a wrong clock, here or on the server, must not cause a loop. */
const RENEWAL_INTERVAL_MS_MIN = 60_000
/** A token without `renewFrom` is renewed in this last share of its remaining life. */
const RENEWAL_SHARE = 0.25

export class Renewal {
  private cancel: (() => void) | null = null
  private attempts = 0
  private notBeforeMs = 0
  private isRunning = false
  private isRequestedByServer = false
  private isStopped = false

  constructor(
    private readonly ports: RenewalPorts,
    private readonly on: RenewalEvents,
  ) {}

  /** Schedules the renewal. Call it when the server's clock is known, which is after each WELCOME. */
  start(): void {
    const identity = this.ports.identity()
    if (this.isStopped || !identity?.core || identity.expiresAtMs === 0) return
    if (identity.renewAtMs === undefined) {
      this.on.timeDrawn({ ...identity, renewAtMs: this.drawTime(identity.expiresAtMs) })
    }
    this.attemptWhenDue()
  }

  /** Renews now, because the server requires it. */
  requestNow(): void {
    if (this.isStopped || !this.ports.identity()?.core) return
    this.isRequestedByServer = true
    // If the tokens of a whole fleet expired while the service was down, the random wait spreads their renewals.
    if (!this.isRunning) this.schedule(this.drawBackoffMs())
  }

  stop(): void {
    this.isStopped = true
    this.cancel?.()
    this.cancel = null
  }

  private get serverNowMs(): number {
    return this.ports.clock.now() + this.ports.clockOffsetMs()
  }

  private drawTime(expiresAtMs: number): number {
    const leftMs = Math.max(0, expiresAtMs - this.serverNowMs)
    return Math.floor(expiresAtMs - RENEWAL_SHARE * leftMs * (1 - this.ports.random()))
  }

  private attemptWhenDue(): void {
    const renewAtMs = this.ports.identity()?.renewAtMs
    if (renewAtMs === undefined || this.isRunning || this.isRequestedByServer) return
    const waitMs = Math.max(renewAtMs - this.serverNowMs, this.notBeforeMs - this.ports.clock.now())
    if (waitMs <= 0) void this.attempt()
    else this.schedule(Math.min(waitMs, TIMER_MS_MAX), () => this.attemptWhenDue())
  }

  private schedule(waitMs: number, work: () => void = () => void this.attempt()): void {
    this.cancel?.()
    this.cancel = this.ports.clock.after(waitMs, () => {
      this.cancel = null
      work()
    })
  }

  private async attempt(): Promise<void> {
    const { random } = this.ports
    const identity = this.ports.identity()
    if (this.isStopped || this.isRunning || !identity?.core) return
    this.isRunning = true
    let renewed: Identity | null = null
    let error: DeviceError | null = null
    try {
      renewed = await (this.ports.renew ?? renew)({ identity, core: identity.core, random })
    } catch (cause) {
      error = cause instanceof DeviceError ? cause : new DeviceError('renew_unreachable', String(cause), { cause })
    }
    this.isRunning = false
    if (this.isStopped) return
    if (renewed) this.handleSuccess(renewed)
    else if (error?.code === 'renew_refused') this.on.refused(error, this.isRequestedByServer)
    else if (error) {
      this.on.failed(error)
      this.schedule(Math.min(error.retryAfterMs, this.ports.settings.retryAfterMsMax) + this.drawBackoffMs())
    }
  }

  private handleSuccess(renewed: Identity): void {
    this.attempts = 0
    this.isRequestedByServer = false
    this.notBeforeMs = this.ports.clock.now() + RENEWAL_INTERVAL_MS_MIN
    this.on.renewed(renewed)
    this.start()
  }

  private drawBackoffMs(): number {
    const { random, settings } = this.ports
    const ceilingMs = Math.min(settings.reconnectCapMs, settings.reconnectBaseMs * 2 ** Math.min(this.attempts++, 30))
    return Math.floor(random() * ceilingMs)
  }
}
