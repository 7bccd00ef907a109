/**
 * QUEUE: the messages that a device could not receive yet, in one short queue for each device, oldest first.
 *
 * Every method keeps two rules, which keep a queue whole:
 * - Never delete the newest record while older ones remain. nats-server 2.9 then loses the older ones from its index of
 *   subjects: `last` finds none although they exist.
 * - After a record is taken out of the middle, append a record that lists the survivors in `older`. A walk over the queue
 *   then never depends on a deleted record. Deleting from the old end needs no list.
 */
import { decodeQueueRecord, encodeQueueRecord, type QueueRecord, type StoredMessage } from '../../protocol/envelope.js'
import { queueStream, queueSubject } from '../../protocol/subjects.js'
import { type Broker, BrokerError, isConflict, type LogRecord } from '../nats/broker.js'
import { SplitLog } from './split.js'

export interface QueueEntry {
  /** Sequence in the QUEUE stream of the device's partition. */
  sequence: number
  record: QueueRecord
}

export interface QueueRef {
  sequence: number
  /** Id of the message that was stored at this sequence. */
  id: bigint
}

/** True if a message has a final event other than `dropped`. The queue itself counts and lists drops. */
export type HasEnded = (id: bigint) => Promise<boolean>

/** How often an append is retried after another writer changed the same queue. */
export const RACES_MAX = 16

export class DeviceQueue {
  private readonly logs: SplitLog

  /**
   * @param noteExpiry writes to EXPIRY when a record expires, so that the expire step finds the record by its sequence. remove()
   *   calls it before it makes a record unreachable for every walk, because the writer of that record may have stopped
   *   before its own entry. It also calls it for each copy, before it deletes the original: a killed nats-server may
   *   restore the original.
   */
  constructor(
    broker: Broker,
    split: number,
    private readonly noteExpiry: (message: StoredMessage, sequence: number) => Promise<void> = async () => undefined,
  ) {
    this.logs = new SplitLog(broker, queueStream, split)
  }

  /** The newest record, from the leader. Null means that the queue is empty. */
  async last(device: string): Promise<QueueEntry | null> {
    const record = await this.logs.ofDevice(device).last(queueSubject(device), { authoritative: true })
    return record === null ? null : entryOf(record)
  }

  /**
   * The record at a sequence; null if it is deleted or belongs to another device. If a replica does not have the record,
   * the leader decides, because a record from a moment ago must not count as deleted.
   */
  async at(device: string, sequence: number): Promise<QueueEntry | null> {
    const record = await this.logs.ofDevice(device).at(sequence, { authoritative: true })
    return record === null || record.subject !== queueSubject(device) ? null : entryOf(record)
  }

  /** All queued entries, oldest first, without those that are dropped and only not deleted yet. */
  async walk(device: string, last?: QueueEntry | null): Promise<QueueEntry[]> {
    const entries = await this.walkAll(device, last)
    const gone = new Set(entries.at(-1)?.record.evicted)
    return entries.filter((entry) => !gone.has(entry.record.message.id))
  }

  /** As walk, but with the evicted entries. The newest entry is the last one. */
  async walkAll(device: string, last?: QueueEntry | null): Promise<QueueEntry[]> {
    let newest = last === undefined ? await this.last(device) : last
    for (let race = 0; race < RACES_MAX; race++) {
      if (newest === null) return []
      const { entries, whole } = await this.walkOnce(device, newest)
      if (whole) return entries
      // A missing record was deleted from the old end or taken out of the middle. The latter appends the list of survivors
      // before it deletes. So if there is no newer record now, nothing before the hole is still queued.
      const now = await this.last(device)
      if (now?.sequence === newest.sequence) return entries
      newest = now
    }
    throw tooManyRaces(device)
  }

  private async walkOnce(device: string, newest: QueueEntry): Promise<{ entries: QueueEntry[]; whole: boolean }> {
    const found = [newest]
    let oldest = newest
    while (oldest.record.older.length === 0 && oldest.record.previous !== 0) {
      const before = await this.at(device, oldest.record.previous)
      if (before === null) return { entries: found.reverse(), whole: false }
      found.push(before)
      oldest = before
    }
    const listed = await Promise.all(oldest.record.older.map((sequence) => this.at(device, sequence)))
    const present = listed.filter((entry) => entry !== null)
    return { entries: [...present, ...found.reverse()], whole: present.length === listed.length }
  }

  /**
   * Appends the newest record. `expectedLast` is the sequence of the record that it follows (0: none). Rejects with
   * BrokerError `wrong_last_sequence` if another writer was faster.
   */
  append(device: string, record: QueueRecord, expectedLast: number): Promise<number> {
    return this.logs.ofDevice(device).append(queueSubject(device), encodeQueueRecord(record), {
      expectedLastSubjectSequence: expectedLast,
    })
  }

  /**
   * Deletes entries one by one, oldest first: a crash in between leaves a shorter queue and not a hole. Resolves with the
   * sequences that were deleted before.
   */
  async delete(device: string, sequences: readonly number[]): Promise<number[]> {
    const log = this.logs.ofDevice(device)
    const missing: number[] = []
    for (const sequence of [...sequences].sort((a, b) => a - b)) {
      if (!(await log.delete(sequence))) missing.push(sequence)
    }
    return missing
  }

  /**
   * Deletes those of `items` that have no older queued message before them, and resolves with the sequences that are gone
   * now. An item behind an older queued message stays. The worker settles it again after the older one is settled.
   */
  async settle(device: string, items: readonly QueueRef[], nowMs: number, hasEnded: HasEnded): Promise<number[]> {
    const gone = await this.settleFront(device, items, nowMs)
    if (gone.length === items.length) return gone
    const left = new Map(
      items.filter(({ sequence }) => !gone.includes(sequence)).map((item) => [item.sequence, item.id]),
    )
    const deletable = await this.deletableOf(device, left, hasEnded)
    const missing = await this.delete(device, deletable)
    const movedIds = new Set(missing.flatMap((sequence) => left.get(sequence) ?? []))
    if (movedIds.size > 0) await this.remove(device, movedIds, nowMs)
    return [...gone, ...deletable.filter((sequence) => left.has(sequence))]
  }

  /**
   * The sequences that may be deleted when `left` is settled, as a walk sees the queue. A message that ended otherwise is
   * settled by nobody: if its delete was interrupted, or a killed nats-server restored it, everything behind it would
   * stay. So a message at the front is also deleted if it has ended, or if it is a listed (and therefore counted) drop. A
   * record that the walk cannot reach blocks nothing.
   */
  private async deletableOf(device: string, left: ReadonlyMap<number, bigint>, hasEnded: HasEnded): Promise<number[]> {
    const walked = await this.walkAll(device)
    const evicted = new Set(walked.at(-1)?.record.evicted)
    const front: number[] = []
    for (const { sequence, record } of walked) {
      const { id } = record.message
      if (left.get(sequence) !== id && !evicted.has(id) && !(await hasEnded(id))) break
      front.push(sequence)
    }
    const walkedSequences = new Set(walked.map((entry) => entry.sequence))
    return [...front, ...[...left.keys()].filter((sequence) => !walkedSequences.has(sequence))]
  }

  /** Deletes the messages that the newest entry lists as evicted. They have ended and are counted. */
  async deleteEvicted(device: string, entries: readonly QueueEntry[]): Promise<void> {
    const newest = entries.at(-1)
    const listed = new Set(newest?.record.evicted)
    const left = entries.filter((entry) => entry !== newest && listed.has(entry.record.message.id))
    await this.delete(
      device,
      left.map((entry) => entry.sequence),
    )
  }

  private async settleFront(device: string, items: readonly QueueRef[], nowMs: number): Promise<number[]> {
    const ascending = [...items].sort((a, b) => a.sequence - b.sequence)
    const entries = await Promise.all(ascending.map((item) => this.at(device, item.sequence)))
    const deletable = new Set<number>()
    const isGone = async (sequence: number) =>
      sequence === 0 || deletable.has(sequence) || (await this.at(device, sequence)) === null
    const present: QueueRef[] = []
    // Items that are absent: settled before, or moved to another sequence by remove() while the device had them.
    const missing = new Set<bigint>()
    for (const [index, item] of ascending.entries()) {
      // A store that lost its end uses the sequence again, for another message.
      const entry = entries[index]?.record.message.id === item.id ? entries[index] : null
      if (entry) {
        const { older, previous } = entry.record
        const before = await Promise.all((older.length > 0 ? older : [previous]).map(isGone))
        if (!before.every(Boolean)) continue
        present.push(item)
      } else missing.add(item.id)
      deletable.add(item.sequence)
    }
    const log = this.logs.ofDevice(device)
    for (const { sequence, id } of newestLast(present)) if (!(await log.delete(sequence))) missing.add(id)
    if (missing.size > 0) await this.remove(device, missing, nowMs)
    return [...deletable]
  }

  /**
   * Takes ended messages out of the queue, wherever they stand, with all their copies. If an older message survives one of
   * them, the newest survivor is appended again with the list of survivors before anything is deleted. A reader in
   * between sees a message twice, but never misses one.
   */
  async remove(device: string, ids: ReadonlySet<bigint>, nowMs: number): Promise<void> {
    const ended = new Set(ids)
    for (let race = 0; race < RACES_MAX; race++) {
      const entries = await this.walkAll(device)
      const newest = entries.at(-1)
      if (!newest || !entries.some((entry) => ended.has(entry.record.message.id))) return
      const removed = new Set([...ended, ...newest.record.evicted])
      const toDelete = entries.filter((entry) => removed.has(entry.record.message.id))
      const survivors = entries.filter((entry) => !removed.has(entry.record.message.id))
      const newestSurvivor = survivors.at(-1)
      const fromOldEnd = (survivors[0]?.sequence ?? Number.POSITIVE_INFINITY) > (toDelete.at(-1)?.sequence ?? 0)
      if (newestSurvivor && !fromOldEnd) {
        const { message } = newestSurvivor.record
        const copy = successor(newest.record, message, survivors.slice(0, -1), nowMs)
        toDelete.push(newestSurvivor)
        // Invariant: a record that no walk reaches any more has its entry in EXPIRY, wherever a crash interrupts this.
        await Promise.all(toDelete.map((entry) => this.noteExpiry(entry.record.message, entry.sequence)))
        const sequence = await this.tryAppend(device, copy, newest.sequence)
        if (sequence === null) continue
        await this.noteExpiry(message, sequence)
      }
      const missing = await this.delete(
        device,
        toDelete.map((entry) => entry.sequence),
      )
      if (missing.length === 0) return
      // Another process deleted the record, or copied and then deleted it. Nobody deletes a message that has not ended. So
      // if the newest survivor is missing, the copy that was just appended has ended as well.
      if (newestSurvivor && missing.includes(newestSurvivor.sequence)) ended.add(newestSurvivor.record.message.id)
    }
    throw tooManyRaces(device)
  }

  /**
   * Deletes records that no walk reaches any more, after a crash between the list of survivors and the deletes. Only for
   * messages that have ended and for which remove() was called.
   */
  async deleteUnreachable(device: string, items: readonly QueueRef[]): Promise<void> {
    const left = await Promise.all(items.map((item) => this.at(device, item.sequence)))
    const unreachable = left.filter((entry, index) => entry !== null && entry.record.message.id === items[index]?.id)
    await this.delete(
      device,
      unreachable.filter((entry) => entry !== null).map((entry) => entry.sequence),
    )
  }

  /** Resolves with the sequence, or with null if another writer was faster. */
  async tryAppend(device: string, record: QueueRecord, expectedLast: number): Promise<number | null> {
    try {
      return await this.append(device, record, expectedLast)
    } catch (error) {
      if (isConflict(error)) return null
      throw error
    }
  }
}

/**
 * The record that follows `newest` when only `survivors` (oldest first) are still queued before it. No walk reaches the
 * other entries from then on, so they need no place in the list of evicted messages.
 */
export function successor(
  newest: QueueRecord,
  message: QueueRecord['message'],
  survivors: readonly QueueEntry[],
  nowMs: number,
): QueueRecord {
  return {
    previous: survivors.at(-1)?.sequence ?? 0,
    depth: survivors.length + 1,
    queue: newest.queue,
    dropped: newest.dropped,
    evicted: [],
    queuedAtMs: nowMs,
    message,
    older: survivors.map((entry) => entry.sequence),
  }
}

/**
 * Order for deletes: from the second newest to the oldest, then the newest.
 *
 * When the first record of a subject is deleted and more than one remains, nats-server 2.9 searches all following records
 * of the stream for the next one of that subject, and blocks the stream meanwhile. In this order that happens at most
 * once. A crash in between makes older records unreachable. They have ended: a repeated settle names them, or at last the
 * expire step deletes them.
 */
function newestLast<T>(ascending: readonly T[]): T[] {
  return [...ascending.slice(0, -1).reverse(), ...ascending.slice(-1)]
}

function entryOf(record: LogRecord): QueueEntry {
  return { sequence: record.sequence, record: decodeQueueRecord(record.body) }
}

/** The error after RACES_MAX lost attempts to change a queue. */
export const tooManyRaces = (device: string) =>
  new BrokerError('unavailable', `the queue of ${device} was changed by others in each of ${RACES_MAX} attempts`)
