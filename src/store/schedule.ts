/**
 * SCHEDULE: accepted messages that go out later, stored by the span of time ("bucket") in which they are due. A record
 * holds the body for MESSAGES or BROADCAST, ready to append.
 */
import { Packr } from 'msgpackr'
import {
  type BroadcastRecord,
  decodeBroadcastRecord,
  decodeStoredMessage,
  encodeBroadcastRecord,
  encodeStoredMessage,
  type StoredMessage,
} from '../../protocol/envelope.js'
import { SCHEDULE_STREAM, scheduleSubject } from '../../protocol/subjects.js'
import { mapAtOnce } from '../collections.js'
import { type Broker, BrokerError, isConflict, type Log, type LogRecord } from '../nats/broker.js'

export type Scheduled = { kind: 'unicast'; message: StoredMessage } | { kind: 'group'; record: BroadcastRecord }

export interface FoundScheduled {
  bucket: number
  sequence: number
  /** Null if the entry has an unknown version. */
  entry: Scheduled | null
}

export interface ScheduleRecord {
  bucket: number
  sequence: number
  body: Uint8Array
}

/** A campaign has tens of thousands of entries, and others use the connection to the store as well. */
const DELETES_AT_ONCE = 64

const VERSION = 1
const packr = new Packr({ useRecords: false })

export class ScheduleLog {
  private readonly log: Log

  /** @param bucketMs length of a bucket. It must be the same in every process of an installation. */
  constructor(
    broker: Broker,
    private readonly bucketMs: number,
  ) {
    this.log = broker.log(SCHEDULE_STREAM)
  }

  bucketOf(atMs: number): number {
    return Math.floor(atMs / this.bucketMs)
  }

  /** The bucket for a message that is accepted now. Never one that has begun by our clock. */
  bucketFor(notBeforeMs: number, acceptedAtMs: number): number {
    return Math.max(this.bucketOf(notBeforeMs), this.bucketOf(acceptedAtMs) + 1)
  }

  /** Adds the entry once; a repeat finds its subject taken. Rejects with BrokerError. */
  async add(bucket: number, entry: Scheduled): Promise<void> {
    const [kind, body] =
      entry.kind === 'unicast' ? ['u', encodeStoredMessage(entry.message)] : ['g', encodeBroadcastRecord(entry.record)]
    const id = entry.kind === 'unicast' ? entry.message.id : entry.record.id
    try {
      await this.log.append(scheduleSubject(bucket, id), packr.pack([VERSION, kind, body]), {
        expectedLastSubjectSequence: 0,
      })
    } catch (error) {
      if (!isConflict(error)) throw error
    }
  }

  /** Null if the entry is absent or was removed. */
  async find(bucket: number, id: bigint): Promise<FoundScheduled | null> {
    const record = await this.log.last(scheduleSubject(bucket, id), { authoritative: true })
    return record && { bucket, sequence: record.sequence, entry: entryOf(record.body) }
  }

  /** The next record of a bucket from a sequence on; of any bucket if `bucket` is null. */
  async next(bucket: number | null, fromSequence: number): Promise<ScheduleRecord | null> {
    const filter = bucket === null ? 'schedule.>' : `schedule.${bucket}.*`
    return recordOf(await this.log.next(filter, fromSequence, { authoritative: true }))
  }

  async at(sequence: number): Promise<ScheduleRecord | null> {
    return recordOf(await this.log.at(sequence, { authoritative: true }))
  }

  /** Null if the entry has an unknown version. */
  decode({ body }: ScheduleRecord): Scheduled | null {
    return entryOf(body)
  }

  /** Removes the entries one by one, because a purge by subject costs the server more than some hundred deletes. */
  async remove(sequences: readonly number[]): Promise<void> {
    await mapAtOnce(sequences, DELETES_AT_ONCE, (sequence) => this.log.delete(sequence))
  }

  async lastSequence(): Promise<number> {
    return (await this.log.state()).lastSequence
  }
}

function recordOf(record: LogRecord | null): ScheduleRecord | null {
  return record && { bucket: Number(record.subject.split('.')[1]), sequence: record.sequence, body: record.body }
}

function entryOf(body: Uint8Array): Scheduled | null {
  const f: unknown = packr.unpack(body)
  if (!Array.isArray(f)) throw new BrokerError('unavailable', 'an entry of SCHEDULE is not an array')
  if (f[0] !== VERSION) return null
  const bytes = f[2] as Uint8Array
  if (f[1] === 'u') return { kind: 'unicast', message: decodeStoredMessage(bytes) }
  return { kind: 'group', record: decodeBroadcastRecord(bytes) }
}
