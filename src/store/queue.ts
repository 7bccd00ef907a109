/**
 * QUEUE: what a device is owed and could not get yet, one short queue per device, oldest first.
 *
 * Two rules keep a queue whole, and every method here keeps them:
 * - the newest record is never deleted while older ones remain. (nats-server 2.9 then forgets the older ones in
 *   its index of subjects: `last` answers "none" although they are still there.)
 * - whatever is taken out of the middle is followed by a record that lists the survivors in `older`, so that the
 *   walk never depends on a record that is gone. Deleting from the old end needs no list.
 */
import { decodeQueueRecord, encodeQueueRecord, type QueueRecord, type StoredMessage } from '../../protocol/envelope.js'
import { queueStream, queueSubject } from '../../protocol/subjects.js'
import { type Broker, BrokerError, type LogRecord } from '../nats/broker.js'
import { SplitLog } from './split.js'

export interface QueueEntry {
  /** In the QUEUE stream of the device's partition. */
  sequence: number
  record: QueueRecord
}

export interface QueueRef {
  sequence: number
  /** Of the message that stood there. */
  id: bigint
}

/** Whether a message has ended otherwise than by a drop, which this queue counts first, and then lists. */
export type HasEnded = (id: bigint) => Promise<boolean>

/** How often an append is tried again because somebody else wrote to the same queue. */
const RACES_MAX = 16

export class DeviceQueue {
  private readonly logs: SplitLog

  /**
   * @param note writes down when a record expires, so that the expiry step finds it by its sequence. remove() calls it for
   *   what it is about to put out of reach of every walk, as the one who appended that may not have come so far; and for
   *   each copy that it made, before it deletes the original, which a killed nats-server may bring back.
   */
  constructor(
    broker: Broker,
    split: number,
    private readonly note: (message: StoredMessage, sequence: number) => Promise<void> = async () => undefined,
  ) {
    this.logs = new SplitLog(broker, queueStream, split)
  }

  /** The newest record, read authoritatively: null says that nothing is owed. */
  async last(device: string): Promise<QueueEntry | null> {
    const record = await this.logs.ofDevice(device).last(queueSubject(device), { authoritative: true })
    return record === null ? null : entryOf(record)
  }

  /**
   * One record by its sequence; null where it is gone, or another device's. A replica is asked first, and the leader where
   * that one has it not: a record that was stored a moment ago must not be taken for one that is gone.
   */
  async at(device: string, sequence: number): Promise<QueueEntry | null> {
    const record = await this.logs.ofDevice(device).at(sequence, { authoritative: true })
    return record === null || record.subject !== queueSubject(device) ? null : entryOf(record)
  }

  /** Everything that is owed, oldest first; without what was dropped and is only not deleted yet. */
  async walk(device: string, last?: QueueEntry | null): Promise<QueueEntry[]> {
    const entries = await this.walkAll(device, last)
    const gone = new Set(entries.at(-1)?.record.evicted)
    return entries.filter((entry) => !gone.has(entry.record.message.id))
  }

  /** As walk, with the evicted of the newest record; the newest is the last one. */
  async walkAll(device: string, last?: QueueEntry | null): Promise<QueueEntry[]> {
    let newest = last === undefined ? await this.last(device) : last
    for (let race = 0; race < RACES_MAX; race++) {
      if (newest === null) return []
      const { entries, whole } = await this.walkOnce(device, newest)
      if (whole) return entries
      // What is missing was deleted from the old end, or taken out of the middle. The latter appends the list of survivors
      // before it deletes: so if nothing newer is there now, nothing before the hole is owed.
      const now = await this.last(device)
      if (now?.sequence === newest.sequence) return entries
      newest = now
    }
    throw restless(device)
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
   * Appends as the newest record; `expectedLast` is the sequence of the one it was made to follow (0: none). Rejects
   * with BrokerError `wrong_last_sequence` where another was faster.
   */
  append(device: string, record: QueueRecord, expectedLast: number): Promise<number> {
    return this.logs.ofDevice(device).append(queueSubject(device), encodeQueueRecord(record), {
      expectedLastSubjectSequence: expectedLast,
    })
  }

  /**
   * Deletes entries, oldest first and one after the other: a crash between leaves a shorter queue, not a hole. Resolves
   * with those that were gone already.
   */
  async delete(device: string, sequences: readonly number[]): Promise<number[]> {
    const log = this.logs.ofDevice(device)
    const missed: number[] = []
    for (const sequence of [...sequences].sort((a, b) => a - b)) {
      if (!(await log.delete(sequence))) missed.push(sequence)
    }
    return missed
  }

  /**
   * Deletes those of `items` that nothing older is in front of, and resolves with the sequences that are gone now. What
   * has something older before it that is owed stays: its owner comes again when that is settled.
   */
  async settle(device: string, items: readonly QueueRef[], nowMs: number, hasEnded: HasEnded): Promise<number[]> {
    const gone = await this.settleFront(device, items, nowMs)
    if (gone.length === items.length) return gone
    const left = new Map(
      items.filter(({ sequence }) => !gone.includes(sequence)).map((item) => [item.sequence, item.id]),
    )
    const free = await this.freeOf(device, left, hasEnded)
    const missed = await this.delete(device, free)
    const moved = new Set(missed.flatMap((sequence) => left.get(sequence) ?? []))
    if (moved.size > 0) await this.remove(device, moved, nowMs)
    return [...gone, ...free.filter((sequence) => left.has(sequence))]
  }

  /**
   * What may go when `left` is settled, as a walk sees the queue. What ended otherwise is settled by nobody: where its delete was
   * cut off, or a killed nats-server brought it back, everything behind it would stay. So what has ended, and a drop that is
   * listed and so counted, goes where it stands in front; and what is out of reach of the walk holds up nothing.
   */
  private async freeOf(device: string, left: ReadonlyMap<number, bigint>, hasEnded: HasEnded): Promise<number[]> {
    const reached = await this.walkAll(device)
    const evicted = new Set(reached.at(-1)?.record.evicted)
    const front: number[] = []
    for (const { sequence, record } of reached) {
      const { id } = record.message
      if (left.get(sequence) !== id && !evicted.has(id) && !(await hasEnded(id))) break
      front.push(sequence)
    }
    const known = new Set(reached.map((entry) => entry.sequence))
    return [...front, ...[...left.keys()].filter((sequence) => !known.has(sequence))]
  }

  /** What the newest of all entries of a queue lists as evicted has ended, and was counted: it goes. */
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
    const free = new Set<number>()
    const isGone = async (sequence: number) =>
      sequence === 0 || free.has(sequence) || (await this.at(device, sequence)) === null
    const present: QueueRef[] = []
    // Not there: settled before, or moved to another sequence by remove() while the device had it.
    const missed = new Set<bigint>()
    for (const [index, item] of ascending.entries()) {
      // A sequence that a store used again after it lost its end is another message's.
      const entry = entries[index]?.record.message.id === item.id ? entries[index] : null
      if (entry) {
        const { older, previous } = entry.record
        const before = await Promise.all((older.length > 0 ? older : [previous]).map(isGone))
        if (!before.every(Boolean)) continue
        present.push(item)
      } else missed.add(item.id)
      free.add(item.sequence)
    }
    const log = this.logs.ofDevice(device)
    for (const { sequence, id } of newestLast(present)) if (!(await log.delete(sequence))) missed.add(id)
    if (missed.size > 0) await this.remove(device, missed, nowMs)
    return [...free]
  }

  /**
   * Takes messages that have ended out of the queue, wherever they stand, all copies of them. Where something older than one of them survives, the newest survivor is appended again, with the
   * list of survivors, before anything is deleted: whoever reads between sees a message twice, never too few.
   */
  async remove(device: string, ids: ReadonlySet<bigint>, nowMs: number): Promise<void> {
    const ended = new Set(ids)
    for (let race = 0; race < RACES_MAX; race++) {
      const entries = await this.walkAll(device)
      const newest = entries.at(-1)
      if (!newest || !entries.some((entry) => ended.has(entry.record.message.id))) return
      const over = new Set([...ended, ...newest.record.evicted])
      const toDelete = entries.filter((entry) => over.has(entry.record.message.id))
      const survivors = entries.filter((entry) => !over.has(entry.record.message.id))
      const youngest = survivors.at(-1)
      const fromOldEnd = (survivors[0]?.sequence ?? Number.POSITIVE_INFINITY) > (toDelete.at(-1)?.sequence ?? 0)
      if (youngest && !fromOldEnd) {
        const { message } = youngest.record
        const copy = successor(newest.record, message, survivors.slice(0, -1), nowMs)
        toDelete.push(youngest)
        // Invariant: what no walk reaches any more has its entry, whatever is cut off from here on.
        await Promise.all(toDelete.map((entry) => this.note(entry.record.message, entry.sequence)))
        const sequence = await this.tryAppend(device, copy, newest.sequence)
        if (sequence === null) continue
        await this.note(message, sequence)
      }
      const missed = await this.delete(
        device,
        toDelete.map((entry) => entry.sequence),
      )
      if (missed.length === 0) return
      // Somebody else deleted it meanwhile, or copied it and then deleted it. Nobody deletes what has not ended, so where
      // the youngest survivor was missed, the copy just appended has ended as well.
      if (youngest && missed.includes(youngest.sequence)) ended.add(youngest.record.message.id)
    }
    throw restless(device)
  }

  /**
   * Deletes records that no walk reaches any more: a crash came between the list of survivors and the deletes. Only for
   * messages that have ended and that remove() was called for.
   */
  async sweepOut(device: string, items: readonly QueueRef[]): Promise<void> {
    const left = await Promise.all(items.map((item) => this.at(device, item.sequence)))
    const stray = left.filter((entry, index) => entry !== null && entry.record.message.id === items[index]?.id)
    await this.delete(
      device,
      stray.filter((entry) => entry !== null).map((entry) => entry.sequence),
    )
  }

  /** The sequence, or null where somebody else appended first. */
  async tryAppend(device: string, record: QueueRecord, expectedLast: number): Promise<number | null> {
    try {
      return await this.append(device, record, expectedLast)
    } catch (error) {
      if (error instanceof BrokerError && error.code === 'wrong_last_sequence') return null
      throw error
    }
  }
}

/**
 * The record that follows `newest` when only `survivors` (oldest first) are still owed before it. Whatever else is in the
 * queue is out of reach of any walk from then on, and so need not be listed among the evicted any more.
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
 * Newest first, but the newest of all at last. When the first record of a subject goes and more than one stays, nats-server
 * 2.9 looks at every record behind it for the next one of that subject, and lets nobody else at the stream meanwhile. In
 * this order that happens once at most. A crash in between cuts off older ones, which have ended: who settles again names
 * them, or at last the expiry step.
 */
function newestLast<T>(ascending: readonly T[]): T[] {
  return [...ascending.slice(0, -1).reverse(), ...ascending.slice(-1)]
}

function entryOf(record: LogRecord): QueueEntry {
  return { sequence: record.sequence, record: decodeQueueRecord(record.body) }
}

const restless = (device: string) => new BrokerError('unavailable', `the queue of ${device} does not stand still`)
