/**
 * Idempotency keys. A record in EVENTS holds the ids that the first command with a key received. It is written by
 * compare-and-set, so that two cores that get the same key at once agree on one set of ids.
 */
import { createHash } from 'node:crypto'
import { Packr } from 'msgpackr'
import { partitionOf } from '../../protocol/message-id.js'
import { eventsStream, idempotencySubject } from '../../protocol/subjects.js'
import { type Broker, BrokerError, isConflict } from '../nats/broker.js'
import { SplitLog } from './split.js'

export interface KeyRecord {
  /** Id of the message, as the sender knows it. */
  id: bigint
  acceptedAtMs: number
  /** Digest of the command, to detect a key that is used for another message. Null if the record predates this digest. */
  fingerprint: string | null
  /** One id for each target, in the order of the command. */
  targets: bigint[]
  /** The target of each id; empty in records that predate this field. */
  targetNames: string[]
}

/**
 * Version 2 has the names of targets, and a fingerprint of the request as the caller sent it. A record of version 1 still
 * stands for its message: if it did not, a repeat with the same key would send the message twice. Its fingerprint is of
 * another form and is not compared. Some records with version 1 have names; those are of the form of version 2.
 */
const VERSION = 2
const packr = new Packr({ useRecords: false, int64AsType: 'bigint' })

/** SHA-256 in base64url over several parts. The length before each part keeps parts from running into each other. */
export function digestOf(parts: readonly (string | Uint8Array)[]): string {
  const hash = createHash('sha256')
  for (const part of parts) {
    const bytes = typeof part === 'string' ? Buffer.from(part, 'utf8') : part
    hash.update(`${bytes.length}:`).update(bytes)
  }
  return hash.digest('base64url')
}

export class IdempotencyKeys {
  private readonly logs: SplitLog

  constructor(broker: Broker, split: number) {
    this.logs = new SplitLog(broker, eventsStream, split)
  }

  /** Resolves with the record that stands for the key from now on: `mine` if no other was first. Rejects with BrokerError. */
  async claim(project: string, key: string, own: KeyRecord): Promise<{ first: boolean; record: KeyRecord }> {
    const digest = digestOf([project, key])
    const partition = partitionOf(digest)
    const log = this.logs.ofPartition(partition)
    const subject = idempotencySubject(partition, digest)
    try {
      const body = packr.pack([VERSION, own.id, own.acceptedAtMs, own.fingerprint, own.targets, own.targetNames])
      await log.append(subject, body, { expectedLastSubjectSequence: 0 })
      return { first: true, record: own }
    } catch (error) {
      if (!isConflict(error)) throw error
    }
    const stored = await log.last(subject, { authoritative: true })
    if (stored === null) throw new BrokerError('unavailable', 'the record of an idempotency key cannot be read')
    const record = decodeKey(stored.body)
    return { first: record.id === own.id, record }
  }
}

export function decodeKey(body: Uint8Array): KeyRecord {
  const f = packr.unpack(body) as unknown[]
  const names = f[5] as string[] | undefined
  return {
    id: f[1] as bigint,
    acceptedAtMs: f[2] as number,
    fingerprint: names === undefined ? null : (f[3] as string),
    targets: f[4] as bigint[],
    targetNames: names ?? [],
  }
}
