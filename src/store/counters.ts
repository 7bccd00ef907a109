/**
 * COUNTERS: checkpoints of the fold over EVENTS.
 *
 * - `<i>`: two sequences. All bases of EVENTS_<i> count at least up to the first; bases and changes together count up to
 *   the second.
 * - `<i>.<project>`, the base: all rows of a project, its newest messages, and the sequence of its last counted event.
 * - `<i>.<project>.d`, the changes: the rows that changed since the base was written, and the newest messages. Each
 *   checkpoint writes only this one; it names the revision of its base, and means nothing once there is another base.
 *
 * A version that knows no changes continues from the first sequence and the bases. It writes another base, so that the
 * changes are not counted twice.
 */
import { Packr } from 'msgpackr'
import { Bucket } from '../../protocol/subjects.js'
import { type Broker, BrokerError, type Table, type TableEntry } from '../nats/broker.js'

/** The counted outcomes of unicast targets, in the order of a stored row. */
export const COUNTED = ['accepted', 'delivered', 'expired', 'dropped', 'collapsed', 'cancelled', 'failed'] as const
export type Counted = (typeof COUNTED)[number]

export interface CounterRow {
  application: string
  /** UTC day on which the message was accepted, such as `2025-01-31`; OLDER_DAYS for the sum of all older days. */
  day: string
  counts: Record<Counted, number>
}

export const OLDER_DAYS = 'older'

export interface ProjectCounters {
  sequence: number
  rows: CounterRow[]
  /** The newest messages of the project in this stream, by the ids that senders know, in stream order. */
  recent: RecentMessages
}

/** The type of each message, by its id. */
export type RecentMessages = Map<bigint, RecentType>

/** A stored record holds the index in this list. */
const RECENT_TYPES = ['device', 'devices', 'topic', 'application', 'user'] as const
export type RecentType = (typeof RECENT_TYPES)[number]
const RECENT_BYTES = 9

export interface Revisioned<T> {
  value: T
  revision: number
}

/** Sequences of EVENTS_<i> up to which events are counted: by every base, and by bases and changes together. */
export interface Position {
  bases: number
  all: number
}

export interface StoredProject extends Revisioned<ProjectCounters> {
  /** 0: no changes were ever written. */
  changesRevision: number
}

const VERSION = 1
const packr = new Packr({ useRecords: false })

export class CounterStore {
  private readonly table: Table

  constructor(broker: Broker) {
    this.table = broker.table(Bucket.COUNTERS)
  }

  /** Up to where EVENTS_<index> is counted. */
  async position(index: number): Promise<Revisioned<Position>> {
    const entry = await this.table.get(String(index), { authoritative: true })
    if (entry === null || entry.deleted) return { value: { bases: 0, all: 0 }, revision: entry?.revision ?? 0 }
    const [, bases, all] = unpack(entry.value) as [number, number, number | undefined]
    return { value: { bases, all: all ?? bases }, revision: entry.revision }
  }

  /** Compare-and-set. Rejects with BrokerError `wrong_last_sequence` if another fold was faster. */
  writePosition(index: number, { bases, all }: Position, revision: number): Promise<number> {
    return this.table.put(String(index), packr.pack([VERSION, bases, all]), revision)
  }

  async project(index: number, project: string): Promise<ProjectCounters | null> {
    const read = (key: string) => this.table.get(key, { authoritative: true })
    // The changes first: a base that is written in between includes them.
    const changes = await read(changesKey(index, project))
    const base = await read(baseKey(index, project))
    if (base === null || base.deleted) return null
    return withChanges(decode(base.value), base.revision, changes && !changes.deleted ? changes.value : null)
  }

  /** The counters of all projects in one fold. */
  async projects(index: number): Promise<Map<string, StoredProject>> {
    const bases = new Map<string, TableEntry>()
    const changes = new Map<string, TableEntry>()
    for (const entry of await this.table.entries(`${index}.>`)) {
      const [, project = '', isChanges] = entry.key.split('.')
      if (!entry.deleted) (isChanges === undefined ? bases : changes).set(project, entry)
    }
    return new Map(
      [...bases].map(([project, base]) => {
        const own = changes.get(project)
        const value = withChanges(decode(base.value), base.revision, own?.value ?? null)
        return [project, { value, revision: base.revision, changesRevision: own?.revision ?? 0 }]
      }),
    )
  }

  /** Writes all of a project. Compare-and-set, as in writePosition. */
  writeBase(index: number, project: string, counters: ProjectCounters, revision: number): Promise<number> {
    return this.table.put(baseKey(index, project), packr.pack([VERSION, ...packed(counters)]), revision)
  }

  /**
   * Writes the rows that changed since the base of this revision, and the newest messages. Compare-and-set, as in
   * writePosition.
   */
  writeChanges(
    index: number,
    project: string,
    changes: ProjectCounters,
    revisions: { base: number; changes: number },
  ): Promise<number> {
    const value = packr.pack([VERSION, ...packed(changes), revisions.base])
    return this.table.put(changesKey(index, project), value, revisions.changes)
  }
}

const baseKey = (index: number, project: string) => `${index}.${project}`
const changesKey = (index: number, project: string) => `${index}.${project}.d`

function packed({ sequence, rows, recent }: ProjectCounters): unknown[] {
  const fields = rows.map((row) => [row.application, row.day, ...COUNTED.map((outcome) => row.counts[outcome])])
  return [sequence, fields, packRecent(recent)]
}

/** @param changes a record of changes, which may belong to another base. */
function withChanges(base: ProjectCounters, revision: number, changes: Uint8Array | null): ProjectCounters {
  if (changes === null || unpack(changes)[4] !== revision) return base
  const { sequence, rows: changed, recent } = decode(changes)
  const rows = new Map([...base.rows, ...changed].map((row) => [`${row.application} ${row.day}`, row]))
  return { sequence, rows: [...rows.values()], recent }
}

export function emptyCounts(): Record<Counted, number> {
  return { accepted: 0, delivered: 0, expired: 0, dropped: 0, collapsed: 0, cancelled: 0, failed: 0 }
}

function decode(value: Uint8Array): ProjectCounters {
  const f = unpack(value)
  const rows = (f[2] as (string | number)[][]).map((row): CounterRow => {
    const counts = emptyCounts()
    for (const [index, outcome] of COUNTED.entries()) counts[outcome] = (row[index + 2] as number | undefined) ?? 0
    return { application: row[0] as string, day: row[1] as string, counts }
  })
  return { sequence: f[1] as number, rows, recent: unpackRecent(f[3] as Uint8Array | undefined) }
}

/** Packs 9 bytes for each message, because the list is written twice a second and msgpack would visit every entry. */
function packRecent(recent: RecentMessages): Uint8Array {
  const packed = Buffer.allocUnsafe(recent.size * RECENT_BYTES)
  let at = 0
  for (const [id, type] of recent) {
    packed.writeBigUInt64BE(id, at)
    packed[at + RECENT_BYTES - 1] = RECENT_TYPES.indexOf(type)
    at += RECENT_BYTES
  }
  return packed
}

/** @param packed absent in records that were written before the list existed. */
function unpackRecent(packed: Uint8Array = new Uint8Array(0)): RecentMessages {
  const view = new DataView(packed.buffer, packed.byteOffset, packed.byteLength)
  const recent: RecentMessages = new Map()
  for (let at = 0; at + RECENT_BYTES <= packed.length; at += RECENT_BYTES) {
    recent.set(view.getBigUint64(at), RECENT_TYPES[view.getUint8(at + RECENT_BYTES - 1)] ?? 'device')
  }
  return recent
}

function unpack(value: Uint8Array): unknown[] {
  const f: unknown = packr.unpack(value)
  if (!Array.isArray(f) || f[0] !== VERSION) throw new BrokerError('unavailable', 'counters of another version')
  return f
}
