/**
 * Leases of transport workers (bucket WORKERS). A worker writes a heartbeat; a reader calls it dead when it saw no new
 * heartbeat for the lease, by the reader's own count of time.
 *
 * A lease only says what the silence of a worker means. Whoever enqueues asks the worker first: a worker that comes back is
 * seen late by a watch, and trusting the watch alone would leave a queued message unread.
 */
import { Packr } from 'msgpackr'
import { Bucket } from '../../protocol/subjects.js'
import type { Clock } from '../clock.js'
import type { Broker, Consumption, Table, TableEntry } from '../nats/broker.js'

export const HEARTBEAT_MS = 3_000
export const LEASE_MS = 10_000

/** A reader counts time in ticks of its own, so that seconds in which it was frozen or cut off count as one tick. */
const TICK_MS = 1_000

/** A worker that was quiet for so long never comes back. */
const FORGET_MS = 3_600_000

const packr = new Packr({ useRecords: false })
const LEASE_VERSION = 1

/** `<index>-<base36 start>`: a worker that was restarted is another worker, with subjects of its own. */
export function workerId(index: number, startedAtMs: number): string {
  return `${index}-${startedAtMs.toString(36)}`
}

const leaseKey = (instance: string, worker: string) => `${instance}.${worker}`

export class WorkerLease {
  private readonly table: Table
  private stopBeating: (() => void) | null = null
  private confirmedAtMs = 0

  constructor(
    broker: Broker,
    private readonly clock: Clock,
    private readonly instance: string,
    private readonly worker: string,
    private readonly on: {
      /** After the heartbeat that ended a lapse: others may have taken this worker for dead. */
      lapse: () => void
      /** A heartbeat was not confirmed; the next one tries again. */
      error: (error: unknown) => void
    },
  ) {
    this.table = broker.table(Bucket.WORKERS)
  }

  /** Resolves when the first heartbeat stands; from then on one every HEARTBEAT_MS. */
  async start(): Promise<void> {
    await this.beat()
    this.schedule()
  }

  /** False where readers may take this worker for dead. */
  get isHeld(): boolean {
    return this.stopBeating !== null && this.clock.now() - this.confirmedAtMs <= LEASE_MS - HEARTBEAT_MS
  }

  /** Stops the heartbeat and tells readers at once. */
  async release(): Promise<void> {
    this.stopBeating?.()
    this.stopBeating = null
    await this.table.delete(leaseKey(this.instance, this.worker))
  }

  private schedule(): void {
    this.stopBeating = this.clock.after(HEARTBEAT_MS, () => {
      const previous = this.confirmedAtMs
      this.schedule()
      this.beat().then(
        () => {
          // A heartbeat of margin: what looks fresh here may be older to a reader.
          if (this.confirmedAtMs - previous > LEASE_MS - HEARTBEAT_MS) this.on.lapse()
        },
        (error: unknown) => this.on.error(error),
      )
    })
  }

  private async beat(): Promise<void> {
    const atMs = this.clock.now()
    await this.table.put(leaseKey(this.instance, this.worker), packr.pack([LEASE_VERSION, atMs]))
    this.confirmedAtMs = Math.max(this.confirmedAtMs, atMs)
  }
}

interface Seen {
  revision: number
  /** Ticks since the revision changed. */
  quietTicks: number
  released: boolean
}

/** What the core knows of the workers' leases. */
export class WorkerLiveness {
  private readonly seen = new Map<string, Seen>()
  private watch: Consumption | null = null
  private stopTicking: (() => void) | null = null

  constructor(
    private readonly broker: Broker,
    private readonly clock: Clock,
    private readonly onError: (error: unknown) => void = () => undefined,
    private readonly leaseMs = LEASE_MS,
  ) {}

  async start(): Promise<void> {
    this.watch = await this.broker.table(Bucket.WORKERS).watch('>', (entry) => this.observe(entry))
    this.tick()
  }

  async stop(): Promise<void> {
    this.stopTicking?.()
    await this.watch?.stop()
  }

  /**
   * True where the worker released its lease, or let it lapse. A worker never seen gets one lease of time from the first
   * question on, for the watch may be behind.
   */
  isDead(instance: string, worker: string): boolean {
    const key = leaseKey(instance, worker)
    const seen = this.seen.get(key)
    if (seen) return seen.released || seen.quietTicks * TICK_MS > this.leaseMs
    this.seen.set(key, { revision: 0, quietTicks: 0, released: false })
    return false
  }

  private observe(entry: TableEntry): void {
    const seen = this.seen.get(entry.key)
    // After a reconnect the watch repeats what it delivered: that is no sign of life.
    if (seen && entry.revision <= seen.revision) return
    this.seen.set(entry.key, { revision: entry.revision, quietTicks: 0, released: entry.deleted })
  }

  private tick(): void {
    this.stopTicking = this.clock.after(TICK_MS, () => {
      this.tick()
      const connected = this.broker.connected()
      for (const [key, seen] of this.seen) {
        seen.quietTicks = connected ? seen.quietTicks + 1 : 0
        if (seen.quietTicks * TICK_MS > FORGET_MS) this.forget(key)
      }
    })
  }

  /** Crashed workers leave their key behind, and come back under another. */
  private forget(key: string): void {
    this.seen.delete(key)
    this.broker
      .table(Bucket.WORKERS)
      .delete(key)
      // Then the next process that reads the table does it.
      .catch((error: unknown) => this.onError(error))
  }
}
