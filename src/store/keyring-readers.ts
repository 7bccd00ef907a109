/**
 * Which process has read which state of the keyring: workers say it in their leases (table WORKERS), cores in records of
 * their own (table CORES). An operator looks there before a key signs.
 */
import { Bucket } from '../../protocol/subjects.js'
import { type Clock, sleep } from '../clock.js'
import type { KeyringMark } from '../keyring.js'
import { type Broker, BrokerError, type Table, type TableEntry } from '../nats/broker.js'
import { HEARTBEAT_MS, heartbeatOf } from './workers.js'

export interface KeyringReader {
  part: 'core' | 'transport'
  /** Unique while the process runs. */
  name: string
  host: string
  pid: number
  /** What it has read; null: a release that does not say it, or an extract of release 0.1. */
  keyring: KeyringMark | null
  /** Of its last sign of life, by its own clock. */
  atMs: number
  /** Grows with each sign of life. */
  tableRevision: number
}

export interface ObservedReader extends KeyringReader {
  /** False: it gave no sign of life while it was watched. It has ended, or is cut off. */
  isAlive: boolean
}

interface CoreRecord extends KeyringMark {
  v: 1
  host: string
  pid: number
  atMs: number
}

const PREFIX = 'keyring.'
const CORE_BEAT_MS = 5_000
/** The record of a crashed core is removed after this time. */
const FORGET_MS = 3_600_000
/** Longer than a running process is ever silent. */
const WATCHED_MS = 2 * Math.max(HEARTBEAT_MS, CORE_BEAT_MS)

/** The signs of life of a core. */
export class CoreReading {
  private readonly table: Table
  private cancel = () => {}
  private stopped = false

  constructor(
    broker: Broker,
    private readonly clock: Clock,
    private readonly options: {
      /** Unique to this process and run. */
      run: string
      host: string
      pid: number
      mark: () => KeyringMark
      onError: (error: unknown) => void
    },
  ) {
    this.table = broker.table(Bucket.CORES)
  }

  /** Rejects with BrokerError. */
  async start(): Promise<void> {
    await this.forgetOld()
    await this.beat()
    this.schedule()
  }

  /** Call it after the keys have changed. Never rejects: the next sign of life says it again. */
  async tell(): Promise<void> {
    if (this.stopped) return
    try {
      await this.beat()
    } catch (error) {
      this.options.onError(error)
    }
  }

  async stop(): Promise<void> {
    this.stopped = true
    this.cancel()
    try {
      await this.table.delete(this.key)
    } catch (error) {
      // The store is unavailable. The silence says the same.
      if (!(error instanceof BrokerError)) throw error
    }
  }

  private get key(): string {
    return `${PREFIX}${this.options.run}`
  }

  private schedule(): void {
    this.cancel = this.clock.after(CORE_BEAT_MS, () => {
      this.schedule()
      void this.tell()
    })
  }

  private async beat(): Promise<void> {
    const { host, pid, mark } = this.options
    const record: CoreRecord = { v: 1, ...mark(), host, pid, atMs: this.clock.now() }
    await this.table.put(this.key, Buffer.from(JSON.stringify(record)))
  }

  private async forgetOld(): Promise<void> {
    for (const entry of await this.table.entries(`${PREFIX}*`)) {
      const reader = coreOf(entry)
      if (reader && reader.atMs + FORGET_MS < this.clock.now()) await this.table.delete(entry.key)
    }
  }
}

/** Rejects with BrokerError. */
export async function readKeyringReaders(broker: Broker): Promise<KeyringReader[]> {
  const [cores, workers] = await Promise.all([
    broker.table(Bucket.CORES).entries(`${PREFIX}*`),
    broker.table(Bucket.WORKERS).entries(),
  ])
  return [...cores.map(coreOf), ...workers.map(workerOf)].filter((reader) => reader !== null)
}

/**
 * Watches those in question for a sign of life, at most ten seconds; by signs and not by clocks, which differ. Rejects
 * with BrokerError.
 */
export async function observeReaders(
  broker: Broker,
  clock: Clock,
  isInQuestion: (reader: KeyringReader) => boolean,
): Promise<ObservedReader[]> {
  const before = await readKeyringReaders(broker)
  const revisions = new Map(before.map((reader) => [reader.name, reader.tableRevision]))
  const silent = (readers: readonly KeyringReader[]) =>
    readers.filter((reader) => isInQuestion(reader) && revisions.get(reader.name) === reader.tableRevision)
  let now = before
  for (const untilMs = clock.steadyMs() + WATCHED_MS; silent(now).length > 0 && clock.steadyMs() < untilMs; ) {
    await sleep(clock, WATCHED_MS / 20)
    now = await readKeyringReaders(broker)
  }
  const dead = new Set(silent(now).map(({ name }) => name))
  return now.map((reader) => ({ ...reader, isAlive: !dead.has(reader.name) }))
}

function coreOf({ key, value, revision, deleted }: TableEntry): KeyringReader | null {
  if (deleted) return null
  const {
    v,
    id,
    revision: keyringRevision,
    host,
    pid,
    atMs,
  } = JSON.parse(Buffer.from(value).toString('utf8')) as CoreRecord
  if (v !== 1) return null
  const keyring = { id, revision: keyringRevision }
  return { part: 'core', name: key.slice(PREFIX.length), host, pid, keyring, atMs, tableRevision: revision }
}

function workerOf({ key, value, revision, deleted }: TableEntry): KeyringReader | null {
  if (deleted) return null
  return { part: 'transport', name: key, ...heartbeatOf(value), tableRevision: revision }
}
