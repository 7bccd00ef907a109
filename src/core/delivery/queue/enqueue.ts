/**
 * Enqueue: appends messages to the queue of a device, within its limit.
 *
 * An overflow is handled in this order, so that the count of dropped messages is exact wherever a crash interrupts it:
 * first the `dropped` events of the evicted messages; then the append, with the raised count and the list of evicted
 * messages; then the deletes. An evicted message that is listed has been counted. One that has a `dropped` event and is
 * not listed was interrupted between the first two steps, and is counted now.
 */
import type { QueueRecord, StoredMessage } from '../../../../protocol/envelope.js'
import type { Clock } from '../../../clock.js'
import type { Logger } from '../../../observe/log.js'
import type { EventLog, FinalKind } from '../../../store/events.js'
import { type ExpiryLog, expiryOf } from '../../../store/expiry.js'
import { type DeviceQueue, type QueueEntry, RACES_MAX, successor, tooManyRaces } from '../../../store/queue.js'
import type { QueueReason } from '../../domain/statuses.js'
import type { ExpireSoon } from './expire-soon.js'

export interface EnqueueOptions {
  clock: Clock
  log: Logger
  queue: DeviceQueue
  events: EventLog
  expiry: ExpiryLog
  expireSoon: Pick<ExpireSoon, 'add'>
  /** Most distinct messages in one queue. */
  queueMax: number
}

/**
 * - `queued`: the message was appended.
 * - `present`: the message was in the queue before.
 * - `replaced`: a newer message with the same collapse key is in the queue. Nothing was appended; the caller ends this
 *   message as `collapsed`.
 * - `ended`: the message has a final event. Nothing was appended.
 */
export type EnqueueResult = 'queued' | 'present' | 'replaced' | 'ended'

interface Plan {
  record: QueueRecord
  follows: number
  /** Deleted after the append. */
  toDelete: QueueEntry[]
}

export class QueueWriter {
  constructor(private readonly options: EnqueueOptions) {}

  /**
   * Enqueues messages of one device in order. Resolves with the result of each when all writes are stored. Rejects with
   * BrokerError if the state of a write is unknown.
   * @param mayBeQueued ids of messages that may be in the queue from an earlier attempt.
   */
  async enqueue(
    device: string,
    messages: readonly StoredMessage[],
    mayBeQueued: ReadonlySet<bigint>,
  ): Promise<EnqueueResult[]> {
    const results: EnqueueResult[] = []
    // failureOf() catches each at once: a failure while the next message is enqueued must not end the process.
    const expiries: Promise<unknown>[] = []
    let last: QueueEntry | null | undefined
    try {
      for (const message of messages) {
        const one = await this.enqueueOne(device, message, mayBeQueued.has(message.id), last)
        results.push(one.result)
        last = one.last
        // An earlier attempt may have stopped before it wrote this entry, and a second entry is harmless.
        if (one.result === 'queued' || one.result === 'present') {
          expiries.push(failureOf(this.scheduleExpiry(message, one.sequence)))
          this.options.expireSoon.add(expiryOf(message, one.sequence))
        }
      }
    } finally {
      // Waits for all of them, so that nothing is under way when the caller learns the result.
      await Promise.all(expiries)
    }
    for (const failure of await Promise.all(expiries)) if (failure !== null) throw failure
    await this.removeEnded(device, messages)
    return results
  }

  /** Removes ended messages that may be in the queue from an earlier attempt. Rejects with BrokerError. */
  async withdraw(device: string, messages: readonly StoredMessage[]): Promise<void> {
    if (messages.length === 0) return
    const ids = new Set(messages.map((message) => message.id))
    await this.options.queue.remove(device, ids, this.options.clock.now())
  }

  /**
   * Append first, then check for an end. A step that ends a message (cancel, expire) writes the event first and then checks
   * the queue. So at least one of the two sees the other, and an ended message does not stay in the queue.
   */
  private async removeEnded(device: string, messages: readonly StoredMessage[]): Promise<void> {
    const finals = await Promise.all(messages.map((message) => this.options.events.readFinal(message.id)))
    const ended = messages.filter((_, index) => finals[index] !== null)
    await this.withdraw(device, ended)
  }

  /** Adds a step to the trace. The trace decides nothing, so a failed write is ignored. */
  async traceQueued({ id }: StoredMessage, reason: QueueReason | ''): Promise<void> {
    const { clock, events, log } = this.options
    try {
      await events.trace(id, { step: 'queued', atMs: clock.now(), reason })
    } catch (error) {
      log.debug({ error, id }, 'a step is missing in the trace of a message')
    }
  }

  private scheduleExpiry(message: StoredMessage, queueSequence: number): Promise<void> {
    return this.options.expiry.addQueued(message, queueSequence, this.options.clock.now())
  }

  private async enqueueOne(
    device: string,
    message: StoredMessage,
    mayBeQueued: boolean,
    known: QueueEntry | null | undefined,
  ) {
    const { queue } = this.options
    let last = known === undefined ? await queue.last(device) : known
    for (let race = 0; race < RACES_MAX; race++) {
      // Also true if the store took an earlier append of ours and its answer was lost.
      if (last?.record.message.id === message.id) {
        // Complete the deletes of that append.
        if (last.record.evicted.length > 0) await queue.deleteEvicted(device, await queue.walkAll(device, last))
        return { result: 'present' as const, sequence: last.sequence, last }
      }
      const plan = await this.plan(device, message, mayBeQueued, last)
      if ('result' in plan) return plan
      // Without a list of evicted messages, no walk reaches these any more, and their writers may not have added their
      // entries to EXPIRY.
      if (plan.record.evicted.length === 0) await this.noteAll(plan.toDelete)
      const sequence = await queue.tryAppend(device, plan.record, plan.follows)
      if (sequence !== null) {
        await queue.delete(device, sequencesOf(plan.toDelete))
        return { result: 'queued' as const, sequence, last: { sequence, record: plan.record } }
      }
      last = await queue.last(device)
    }
    throw tooManyRaces(device)
  }

  private async noteAll(entries: readonly QueueEntry[]): Promise<void> {
    await Promise.all(entries.map((entry) => this.scheduleExpiry(entry.record.message, entry.sequence)))
  }

  /**
   * True if a message that may have been in the queue has ended. Appended again, it would evict another message, and be
   * counted a second time when it is evicted itself.
   *
   * Invariant: no message is appended after its drop was counted. The event is read after `last`, the record that the
   * append has to follow. If the drop was counted before that, the event exists; if it is counted later, the append fails.
   * A first delivery has been in no queue, unless another router was given the message too. It is therefore checked only
   * in queues that have dropped something.
   */
  private async hasEnded(message: StoredMessage, mayBeQueued: boolean, last: QueueEntry | null): Promise<boolean> {
    if (!mayBeQueued && (last === null || last.record.dropped === 0)) return false
    return (await this.options.events.readFinal(message.id)) !== null
  }

  private async plan(device: string, message: StoredMessage, mayBeQueued: boolean, last: QueueEntry | null) {
    const nowMs = this.options.clock.now()
    if (last === null) return this.planFirst(message, mayBeQueued, nowMs)
    const { depth, evicted } = last.record
    // `depth` is an upper bound. Below the limit, there is nothing to count and nothing to evict.
    if (!mayBeQueued && depth < this.options.queueMax && message.collapseKey === '' && evicted.length === 0) {
      if (await this.hasEnded(message, mayBeQueued, last)) return { result: 'ended' as const, sequence: 0, last }
      return { record: next(last, message, nowMs), follows: last.sequence, toDelete: [] } satisfies Plan
    }
    const entries = await this.options.queue.walkAll(device, last)
    const newest = entries.at(-1)
    if (!newest) return this.planFirst(message, mayBeQueued, nowMs)
    return this.planWith(entries, newest, message, mayBeQueued, nowMs)
  }

  private async planFirst(message: StoredMessage, mayBeQueued: boolean, nowMs: number) {
    if (await this.hasEnded(message, mayBeQueued, null)) return { result: 'ended' as const, sequence: 0, last: null }
    return { record: first(message, nowMs), follows: 0, toDelete: [] } satisfies Plan
  }

  private async planWith(
    entries: QueueEntry[],
    newest: QueueEntry,
    message: StoredMessage,
    mayBeQueued: boolean,
    nowMs: number,
  ) {
    const listed = new Set(newest.record.evicted)
    const owed = entries.filter((entry) => !listed.has(entry.record.message.id))
    const present = owed.find((entry) => entry.record.message.id === message.id)
    if (present) {
      await this.options.queue.deleteEvicted(message.device, entries)
      return { result: 'present' as const, sequence: present.sequence, last: newest }
    }
    if (await this.hasEnded(message, mayBeQueued, newest))
      return { result: 'ended' as const, sequence: 0, last: newest }
    const sameKey = owed.map((entry) => entry.record.message).filter((other) => collapses(other, message))
    // Ids are ordered by time. A late message does not replace a newer one.
    if (sameKey.some((other) => other.id > message.id)) {
      return { result: 'replaced' as const, sequence: 0, last: newest }
    }
    const collapsed = await this.endAll(sameKey, 'collapsed', nowMs)
    const rest = owed.filter((entry) => !collapsed.has(entry.record.message.id))
    const excess = distinct(rest).slice(0, Math.max(0, distinct(rest).length + 1 - this.options.queueMax))
    const dropped = await this.drop(excess, nowMs)
    const droppedIds = new Set(excess.map((entry) => entry.id))
    const survivors = rest.filter((entry) => !droppedIds.has(entry.record.message.id))
    const toDelete = entries.filter((entry) => !survivors.includes(entry))
    const total = newest.record.dropped + dropped
    const depth = distinct(survivors).length + 1
    // Deletes from the old end keep the chain whole and list the evicted. Other deletes list the survivors.
    const fromOldEnd = (toDelete.at(-1)?.sequence ?? 0) < (survivors[0]?.sequence ?? Number.POSITIVE_INFINITY)
    const record = fromOldEnd
      ? { ...next(newest, message, nowMs), evicted: toDelete.map((entry) => entry.record.message.id) }
      : successor(newest.record, message, survivors, nowMs)
    const plan: Plan = {
      record: { ...record, dropped: total, depth },
      follows: newest.sequence,
      toDelete,
    }
    return plan
  }

  /** Resolves with the number of evicted messages that this queue drops and has not counted yet. */
  private async drop(evicted: StoredMessage[], nowMs: number): Promise<number> {
    const outcomes = await Promise.all(evicted.map((entry) => this.end(entry, 'dropped', nowMs)))
    return outcomes.filter((outcome) => outcome.won || outcome.existing?.kind === 'dropped').length
  }

  private async endAll(messages: StoredMessage[], kind: FinalKind, nowMs: number): Promise<Set<bigint>> {
    await Promise.all(messages.map((message) => this.end(message, kind, nowMs)))
    return new Set(messages.map((message) => message.id))
  }

  private end(message: StoredMessage, kind: FinalKind, atMs: number) {
    const { id, project, application, device } = message
    return this.options.events.finalOfQueued(id, { kind, atMs, project, application, device, reason: '' })
  }
}

/** Resolves with the error, or with null on success. */
const failureOf = (work: Promise<void>): Promise<unknown> =>
  work.then(
    () => null,
    (error: unknown) => error,
  )

function collapses(other: StoredMessage, message: StoredMessage): boolean {
  return (
    message.collapseKey !== '' &&
    other.collapseKey === message.collapseKey &&
    other.registration === message.registration
  )
}

/** The messages of a queue, oldest first, without copies. */
function distinct(entries: QueueEntry[]): StoredMessage[] {
  return [...new Map(entries.map((entry) => [entry.record.message.id, entry.record.message])).values()]
}

const sequencesOf = (entries: readonly QueueEntry[]) => entries.map((entry) => entry.sequence)

function first(message: StoredMessage, queuedAtMs: number): QueueRecord {
  return { previous: 0, depth: 1, queue: message.id, dropped: 0, evicted: [], queuedAtMs, message, older: [] }
}

function next(last: QueueEntry, message: StoredMessage, queuedAtMs: number): QueueRecord {
  const { depth, queue, dropped, evicted } = last.record
  return { previous: last.sequence, depth: depth + 1, queue, dropped, evicted, queuedAtMs, message, older: [] }
}
