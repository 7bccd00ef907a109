/**
 * What an idempotency key stands for: the ids that the first command with it was given. A record in EVENTS, written by
 * compare-and-set, so that two cores that get the same key at once agree on one set of ids.
 */
import { createHash } from 'node:crypto'
import { Packr } from 'msgpackr'
import { partitionOf } from '../../protocol/message-id.js'
import { eventsStream, idempotencySubject } from '../../protocol/subjects.js'
import { type Broker, BrokerError } from '../nats/broker.js'
import { SplitLog } from './split.js'

export interface KeyRecord {
  /** Id of the message as the sender knows it. */
  id: bigint
  acceptedAtMs: number
  /** What the command said, so that a key used for another message is noticed. Null: not comparable with those of now. */
  fingerprint: string | null
  /** One for each target, in the order of the command. */
  targets: bigint[]
  /** Which target each of them is for; none in a record that is older than this field. */
  names: string[]
}

/**
 * 2: with names, and a fingerprint of what the caller sent rather than of what came of it. A record of version 1 stands for
 * its message all the same, or the repeat that the key was made for would send it twice; its fingerprint compares with
 * nothing of now. (Some that say 1 have names: those are of form 2.)
 */
const VERSION = 2
const packr = new Packr({ useRecords: false, int64AsType: 'bigint' })

/** SHA-256 of parts that can not run into each other, as base64url. */
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

  /** The record that stands for the key from now on: `mine` where nobody was first. Rejects with BrokerError. */
  async claim(project: string, key: string, mine: KeyRecord): Promise<{ first: boolean; record: KeyRecord }> {
    const digest = digestOf([project, key])
    const partition = partitionOf(digest)
    const log = this.logs.ofPartition(partition)
    const subject = idempotencySubject(partition, digest)
    try {
      const body = packr.pack([VERSION, mine.id, mine.acceptedAtMs, mine.fingerprint, mine.targets, mine.names])
      await log.append(subject, body, { expectedLastSubjectSequence: 0 })
      return { first: true, record: mine }
    } catch (error) {
      if (!(error instanceof BrokerError && error.code === 'wrong_last_sequence')) throw error
    }
    const stored = await log.last(subject, { authoritative: true })
    if (stored === null) throw new BrokerError('unavailable', 'the record of an idempotency key can not be read')
    const record = recordOf(stored.body)
    return { first: record.id === mine.id, record }
  }
}

function recordOf(body: Uint8Array): KeyRecord {
  const f = packr.unpack(body) as unknown[]
  const names = f[5] as string[] | undefined
  return {
    id: f[1] as bigint,
    acceptedAtMs: f[2] as number,
    fingerprint: names === undefined ? null : (f[3] as string),
    targets: f[4] as bigint[],
    names: names ?? [],
  }
}
