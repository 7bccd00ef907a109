/**
 * EXPIRY: when queued messages expire. Entries are stored by the span of time ("bucket") of the expiry, so that the expire
 * step reads only due entries. An entry names a message and its device; it outlives the queued record and every process.
 */
import { Packr } from 'msgpackr'
import type { StoredMessage } from '../../protocol/envelope.js'
import { partitionOf } from '../../protocol/message-id.js'
import { EXPIRY_STREAM, expirySubject } from '../../protocol/subjects.js'
import { type AppendOptions, type Broker, BrokerError, type Log, type LogRecord } from '../nats/broker.js'

export interface ExpiryEntry {
  id: bigint
  device: string
  project: string
  application: string
  expiresAtMs: number
  /** Sequence at which the message was queued. It may have moved to another since. */
  queueSequence: number
}

export interface ExpiryRecord {
  bucket: number
  sequence: number
  body: Uint8Array
}

/** The step removes what it passes: an entry that a read skips would be lost. */
const AUTHORITATIVE = { authoritative: true }

const VERSION = 1
const packr = new Packr({ useRecords: false, int64AsType: 'bigint' })

export class ExpiryLog {
  private readonly log: Log

  /** @param bucketMs length of a bucket. It must be the same in every process of an installation. */
  constructor(
    broker: Broker,
    private readonly bucketMs: number,
  ) {
    this.log = broker.log(EXPIRY_STREAM)
  }

  bucketOf(atMs: number): number {
    return Math.floor(atMs / this.bucketMs)
  }

  /** Never adds to a bucket that has begun by our clock, because the expire step may have read that bucket already. */
  async add(entry: ExpiryEntry, nowMs: number, options?: AppendOptions): Promise<void> {
    const bucket = Math.max(this.bucketOf(entry.expiresAtMs), this.bucketOf(nowMs) + 1)
    const { id, device, project, application, expiresAtMs, queueSequence } = entry
    const body = packr.pack([VERSION, id, device, project, application, expiresAtMs, queueSequence])
    await this.log.append(expirySubject(bucket, partitionOf(device)), body, options)
  }

  /** Adds the expiry of a message that was queued at `queueSequence`. */
  addQueued(message: StoredMessage, queueSequence: number, nowMs: number): Promise<void> {
    return this.add(expiryOf(message, queueSequence), nowMs)
  }

  /** The next entry of a bucket from a sequence on; of any bucket if `bucket` is null. */
  async next(bucket: number | null, fromSequence: number): Promise<ExpiryRecord | null> {
    const filter = bucket === null ? 'expiry.>' : bucketFilter(bucket)
    return recordOf(await this.log.next(filter, fromSequence, AUTHORITATIVE))
  }

  async at(sequence: number): Promise<ExpiryRecord | null> {
    return recordOf(await this.log.at(sequence, AUTHORITATIVE))
  }

  /** Null if the entry has an unknown version. */
  decode({ body }: ExpiryRecord): ExpiryEntry | null {
    return decodeExpiry(body)
  }

  /** Removes the entries with one purge up to the last of them. Entries that were added since stay. */
  async remove(sequences: readonly number[], bucket: number): Promise<void> {
    await this.log.purge(bucketFilter(bucket), (sequences.at(-1) ?? 0) + 1)
  }

  async lastSequence(): Promise<number> {
    return (await this.log.state()).lastSequence
  }
}

/** The entry of a message that was queued at `queueSequence`. */
export function expiryOf(message: StoredMessage, queueSequence: number): ExpiryEntry {
  const { id, device, project, application, expiresAtMs } = message
  return { id, device, project, application, expiresAtMs, queueSequence }
}

const bucketFilter = (bucket: number) => `expiry.${bucket}.>`

function recordOf(record: LogRecord | null): ExpiryRecord | null {
  return record && { bucket: Number(record.subject.split('.')[1]), sequence: record.sequence, body: record.body }
}

/** Null for an entry of another version. */
export function decodeExpiry(body: Uint8Array): ExpiryEntry | null {
  const f: unknown = packr.unpack(body)
  if (!Array.isArray(f)) throw new BrokerError('unavailable', 'an entry of EXPIRY is not an array')
  if (f[0] !== VERSION) return null
  return {
    id: f[1] as bigint,
    device: f[2] as string,
    project: f[3] as string,
    application: f[4] as string,
    expiresAtMs: f[5] as number,
    queueSequence: f[6] as number,
  }
}
