/**
 * COUNTERS: checkpoints of the fold over EVENTS. Key `<i>` holds the sequence up to which EVENTS_<i> is counted for all
 * projects. Key `<i>.<project>` holds the counts of one project, its newest messages, and the sequence of its last
 * counted event.
 */
import { Packr } from 'msgpackr'
import { Bucket } from '../../protocol/subjects.js'
import { type Broker, BrokerError, type Table } from '../nats/broker.js'

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

const VERSION = 1
const packr = new Packr({ useRecords: false })

export class CounterStore {
  private readonly table: Table

  constructor(broker: Broker) {
    this.table = broker.table(Bucket.COUNTERS)
  }

  /** The sequence up to which EVENTS_<index> is counted. */
  async position(index: number): Promise<Revisioned<number>> {
    const entry = await this.table.get(String(index), { authoritative: true })
    if (entry === null || entry.deleted) return { value: 0, revision: entry?.revision ?? 0 }
    return { value: unpack(entry.value)[1] as number, revision: entry.revision }
  }

  /** Compare-and-set. Rejects with BrokerError `wrong_last_sequence` if another fold was faster. */
  writePosition(index: number, sequence: number, revision: number): Promise<number> {
    return this.table.put(String(index), packr.pack([VERSION, sequence]), revision)
  }

  async project(index: number, project: string): Promise<ProjectCounters | null> {
    const entry = await this.table.get(`${index}.${project}`, { authoritative: true })
    return entry === null || entry.deleted ? null : decode(entry.value)
  }

  /** The counters of all projects in one fold. */
  async projects(index: number): Promise<Map<string, Revisioned<ProjectCounters>>> {
    const found = new Map<string, Revisioned<ProjectCounters>>()
    for (const { key, value, revision, deleted } of await this.table.entries(`${index}.*`)) {
      if (!deleted) found.set(key.slice(key.indexOf('.') + 1), { value: decode(value), revision })
    }
    return found
  }

  /** Compare-and-set, as in writePosition. */
  writeProject(index: number, project: string, counters: ProjectCounters, revision: number): Promise<number> {
    const rows = counters.rows.map((row) => [
      row.application,
      row.day,
      ...COUNTED.map((outcome) => row.counts[outcome]),
    ])
    return this.table.put(
      `${index}.${project}`,
      packr.pack([VERSION, counters.sequence, rows, packRecent(counters.recent)]),
      revision,
    )
  }
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
