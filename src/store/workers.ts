/**
 * Leases of transport workers (bucket WORKERS). A worker writes heartbeats. A reader takes a worker for dead after it has
 * seen no new heartbeat for the length of the lease, measured by the reader's own clock.
 *
 * A lease only explains the silence of a worker. Before a message is queued, the router therefore asks the worker itself.
 * A watch notices late that a worker is back; with the watch alone, a queued message could stay unread.
 */
import { Packr } from 'msgpackr'
import { Bucket } from '../../protocol/subjects.js'
import type { Clock } from '../clock.js'
import type { KeyringMark } from '../keyring.js'
import type { Broker, Consumption, Table, TableEntry } from '../nats/broker.js'
import { storedAt } from './service-clock.js'

export const HEARTBEAT_MS = 3_000
export const LEASE_MS = 10_000

/** A reader counts ticks of its own, so that seconds in which it was frozen or cut off count as one tick. */
const TICK_MS = 1_000

/** After so long a silence, a worker never comes back. */
const FORGET_MS = 3_600_000

const packr = new Packr({ useRecords: false })
const LEASE_VERSION = 1

/** `<index>-<start time in base 36>`. A restarted worker has a new id and new subjects. */
export function workerId(index: number, startedAtMs: number): string {
  return `${index}-${startedAtMs.toString(36)}`
}

const leaseKey = (instance: string, worker: string) => `${instance}.${worker}`

/** What a heartbeat says about its worker, for operators. */
export interface AboutWorker {
  host: string
  pid: number
  /** The keys that it has read; null if its extract does not name them. */
  keyring: KeyringMark | null
}

type HeartbeatFields = [
  version: number,
  atMs: number,
  host?: string,
  pid?: number,
  id?: string | null,
  revision?: number,
]

/** A heartbeat of the releases before this one says its time only. */
export function heartbeatOf(value: Uint8Array): AboutWorker & { atMs: number } {
  const [, atMs, host = '', pid = 0, id = null, revision = 0] = packr.unpack(value) as HeartbeatFields
  return { atMs, host, pid, keyring: id === null ? null : { id, revision } }
}

export class WorkerLease {
  private readonly table: Table
  private stopBeating: (() => void) | null = null
  /** When the last confirmed heartbeat began, by steadyMs(): a clock that was set must not hide a lapse. */
  private confirmedAtMs = Number.NEGATIVE_INFINITY

  constructor(
    broker: Broker,
    private readonly clock: Clock,
    private readonly instance: string,
    private readonly worker: string,
    private readonly on: {
      /** Called after the heartbeat that ended a lapse. Others may have taken this worker for dead. */
      lapse: () => void
      /** Called if a heartbeat was not confirmed. The next one is the retry. */
      error: (error: unknown) => void
    },
    private readonly about: () => AboutWorker = () => ({ host: '', pid: 0, keyring: null }),
  ) {
    this.table = broker.table(Bucket.WORKERS)
  }

  /** Resolves after the first heartbeat is stored. Then writes one every HEARTBEAT_MS. */
  async start(): Promise<void> {
    await this.beat()
    this.schedule()
  }

  /** Writes a heartbeat and resolves with the time at which the store took it. Rejects with BrokerError. */
  async askStore(): Promise<number> {
    await this.beat()
    return storedAt(this.table, leaseKey(this.instance, this.worker))
  }

  /** Writes a heartbeat at once, because what it says has changed. Never rejects: the next heartbeat says it again. */
  async tell(): Promise<void> {
    if (!this.stopBeating) return
    try {
      await this.beat()
    } catch (error) {
      this.on.error(error)
    }
  }

  /** False if readers may take this worker for dead. */
  get isHeld(): boolean {
    return this.stopBeating !== null && this.clock.steadyMs() - this.confirmedAtMs <= LEASE_MS - HEARTBEAT_MS
  }

  /** Stops the heartbeat and shows readers at once that the worker is gone. */
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
          // A margin of one heartbeat, because a heartbeat can look older to a reader than to us.
          if (this.confirmedAtMs - previous > LEASE_MS - HEARTBEAT_MS) this.on.lapse()
        },
        (error: unknown) => this.on.error(error),
      )
    })
  }

  private async beat(): Promise<void> {
    const beginMs = this.clock.steadyMs()
    const { host, pid, keyring } = this.about()
    const read = keyring ? [keyring.id, keyring.revision] : [null, null]
    const heartbeat = packr.pack([LEASE_VERSION, this.clock.now(), host, pid, ...read])
    await this.table.put(leaseKey(this.instance, this.worker), heartbeat)
    this.confirmedAtMs = Math.max(this.confirmedAtMs, beginMs)
  }
}

interface Seen {
  revision: number
  /** Ticks since the last change of the revision. */
  quietTicks: number
  released: boolean
}

/** The view of a core on the leases of the workers. */
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
   * True if the worker released its lease or let it lapse. A worker that was never seen gets the time of one lease from
   * the first question on, because the watch may lag.
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
    // After a reconnect the watch repeats old entries, which are no sign of life.
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

  /** A crashed worker leaves its key behind and comes back under another. */
  private forget(key: string): void {
    this.seen.delete(key)
    this.broker
      .table(Bucket.WORKERS)
      .delete(key)
      // After a failure, the next process that reads the table deletes the key.
      .catch((error: unknown) => this.onError(error))
  }
}
