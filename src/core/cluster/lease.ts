/**
 * Leases of core processes (table CORES): keys that one process holds at a time, by renewing them.
 *
 * No lease protects anything that must never happen twice. Two routers of one stream, or two folds at once, are harmless,
 * because the store decides by compare-and-set; the leases only keep double work short. Node numbers must be unique, and
 * therefore check `heldUntilMs`.
 */
import type { Clock } from '../../clock.js'
import { BrokerError, isConflict, type Table, type TableEntry } from '../../nats/broker.js'
import type { Stoppable } from '../../stop-stack.js'

interface LeaseRecord {
  v: 1
  holder: string
  atMs: number
  released: boolean
}

/** How often a lease is renewed or checked within its time. */
const BEATS = 3

export interface LeaseOptions {
  table: Table
  clock: Clock
  /** Unique to this process and run. */
  holder: string
  leaseMs: number
}

export class Lease {
  private revision = 0
  /** Number of consecutive checks that found the other holder's record unchanged. */
  private quiet = 0
  private held = false
  /** The lease is reliable until then, by steadyMs() of our clock. Other processes wait longer before they take it. */
  heldUntilMs = 0

  constructor(
    readonly key: string,
    private readonly options: LeaseOptions,
  ) {}

  get isHeld(): boolean {
    return this.held
  }

  get beatMs(): number {
    return this.options.leaseMs / BEATS
  }

  /** Takes or renews the lease. Call it once every beat. Resolves with whether the lease is held. Never rejects. */
  async beat(): Promise<boolean> {
    try {
      if (this.held) await this.write(false)
      else await this.tryTake()
    } catch (error) {
      if (!(error instanceof BrokerError)) throw error
      this.quiet = 0
      if (isConflict(error)) return this.lost()
      // Unknown. The lease counts as held until others are about to take it.
      if (this.options.clock.steadyMs() >= this.heldUntilMs) this.held = false
    }
    return this.held
  }

  /** The renewal was refused: another process has the lease, or an earlier renewal was stored and its answer lost. */
  private async lost(): Promise<boolean> {
    this.held = false
    try {
      await this.tryTake()
    } catch (error) {
      if (!(error instanceof BrokerError)) throw error
    }
    return this.held
  }

  /** Takes the lease over the record of a revision. Resolves with false if another was faster. Rejects with BrokerError. */
  async takeOver(revision: number): Promise<boolean> {
    this.revision = revision
    try {
      await this.write(false)
      return true
    } catch (error) {
      if (isConflict(error)) return false
      throw error
    }
  }

  /** Lets the next process take the lease at once. */
  async release(): Promise<void> {
    if (!this.held) return
    this.held = false
    try {
      await this.write(true)
    } catch (error) {
      // The store is unavailable. The lease runs out by itself.
      if (!(error instanceof BrokerError)) throw error
    }
  }

  private async tryTake(): Promise<void> {
    const entry = await this.options.table.get(this.key, { authoritative: true })
    const unchanged = entry !== null && entry.revision === this.revision
    this.revision = entry?.revision ?? 0
    this.quiet = unchanged ? this.quiet + 1 : 0
    const mine = entry !== null && !entry.deleted && decodeLease(entry.value).holder === this.options.holder
    if (mine || isFree(entry) || this.quiet > BEATS) await this.write(false)
  }

  private async write(released: boolean): Promise<void> {
    const { table, clock, holder, leaseMs } = this.options
    const atMs = clock.now()
    const beginMs = clock.steadyMs()
    this.revision = await table.put(this.key, encodeLease({ v: 1, holder, atMs, released }), this.revision)
    this.held = !released
    this.quiet = 0
    this.heldUntilMs = released ? 0 : beginMs + (leaseMs * (BEATS - 1)) / BEATS
  }
}

export function isFree(entry: TableEntry | null): boolean {
  return entry === null || entry.deleted || decodeLease(entry.value).released
}

/** When a lease was last written; 0 if it is deleted. */
export function writtenAtMs(entry: TableEntry): number {
  return entry.deleted ? 0 : decodeLease(entry.value).atMs
}

const encodeLease = (record: LeaseRecord) => Buffer.from(JSON.stringify(record))
const decodeLease = (value: Uint8Array) => JSON.parse(Buffer.from(value).toString('utf8')) as LeaseRecord

/**
 * Runs a role while its lease is held, and stops it when the lease is lost. The lease is renewed while the role begins or
 * stops, which may take longer than a lease.
 */
export class LeasedRole {
  private running: Stoppable | null = null
  /** The start or stop that is under way. */
  private change: Promise<void> | null = null
  private loop: Promise<void> = Promise.resolve()
  private stopped = false
  private wake: (() => void) | null = null

  /** @param onError receives the error of a start or stop that failed. The next beat retries a start. */
  constructor(
    private readonly lease: Lease,
    private readonly clock: Clock,
    private readonly begin: () => Promise<Stoppable>,
    private readonly onError: (error: unknown) => void,
  ) {}

  /** Resolves after the first attempt to take the lease, and to begin if that succeeded. */
  async start(): Promise<void> {
    await this.turn()
    this.loop = this.follow()
    await this.change
  }

  async stop(): Promise<void> {
    this.stopped = true
    this.wake?.()
    await this.loop
    await this.change
    await this.running?.stop()
    await this.lease.release()
  }

  private async follow(): Promise<void> {
    while (!this.stopped) {
      await new Promise<void>((resolve) => {
        const cancel = this.clock.after(this.lease.beatMs, resolve)
        this.wake = () => {
          cancel()
          resolve()
        }
      })
      if (!this.stopped) await this.turn()
    }
  }

  /** Does not wait for the role: the next beat must not be late. */
  private async turn(): Promise<void> {
    const held = await this.lease.beat()
    if (this.change !== null || held === (this.running !== null)) return
    this.change = (held ? this.beginRole() : this.stopRole()).catch(this.onError).then(() => {
      this.change = null
    })
  }

  private async beginRole(): Promise<void> {
    this.running = await this.begin()
  }

  private async stopRole(): Promise<void> {
    const lost = this.running
    this.running = null
    await lost?.stop()
  }
}
