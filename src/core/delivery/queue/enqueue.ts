/**
 * enqueue: appends what a device is owed to its queue, inside its limit, and tells who replaced or pushed out whom.
 *
 * Order of an overflow, so that the count of dropped messages is exact whatever crashes between: the evicted' `dropped`
 * events; the append, with the raised count and the list of evicted; the deletes. A evictedEntry that is listed was counted.
 * One that is not listed and has a `dropped` event was interrupted between the first two steps: it is counted now.
 */
import type { QueueRecord, StoredMessage } from '../../../../protocol/envelope.js'
import type { Clock } from '../../../clock.js'
import { BrokerError } from '../../../nats/broker.js'
import type { Logger } from '../../../observe/log.js'
import type { EventLog, FinalKind } from '../../../store/events.js'
import type { ExpiryLog } from '../../../store/expiry.js'
import { type DeviceQueue, type QueueEntry, successor } from '../../../store/queue.js'
import type { QueueReason } from '../../domain/statuses.js'

export interface EnqueueOptions {
  clock: Clock
  log: Logger
  queue: DeviceQueue
  events: EventLog
  expiry: ExpiryLog
  /** Most distinct messages in one queue. */
  queueMax: number
}

/**
 * `queued`: in the queue now. `present`: was there already. `replaced`: a newer message with its collapse key is there:
 * nothing was appended, and it ends as `collapsed`. `ended`: it has a final event, and nothing was appended.
 */
export type EnqueueResult = 'queued' | 'present' | 'replaced' | 'ended'

/** How often an append is tried again because somebody else wrote to the same queue. */
const RACES_MAX = 16

interface Plan {
  record: QueueRecord
  follows: number
  /** Deleted after the append. */
  toDelete: QueueEntry[]
}

export class QueueWriter {
  constructor(private readonly options: EnqueueOptions) {}

  /**
   * Parks messages of one device in their order. Resolves with what became of each, once everything that has to be stored
   * is stored; rejects with BrokerError where that is not known.
   * @param again the ids of messages that may be in the queue from an earlier try.
   */
  async enqueue(
    device: string,
    messages: readonly StoredMessage[],
    again: ReadonlySet<bigint>,
  ): Promise<EnqueueResult[]> {
    const results: EnqueueResult[] = []
    // Caught where they begin: one that fails while the next message is placed must not end the process.
    const expiries: Promise<unknown>[] = []
    let last: QueueEntry | null | undefined
    try {
      for (const message of messages) {
        const placed = await this.place(device, message, again.has(message.id), last)
        results.push(placed.result)
        last = placed.last
        // An earlier try may have ended before its entry was written; a second entry is harmless.
        if (placed.result === 'queued' || placed.result === 'present')
          expiries.push(failureOf(this.scheduleExpiry(message, placed.sequence)))
      }
    } finally {
      // Nothing is under way any more when the caller learns how it ended.
      await Promise.all(expiries)
    }
    for (const failure of await Promise.all(expiries)) if (failure !== null) throw failure
    await this.takeOutEnded(device, messages)
    return results
  }

  /** Takes out what has ended and may be in the queue from an earlier try. Rejects with BrokerError. */
  async withdraw(device: string, messages: readonly StoredMessage[]): Promise<void> {
    if (messages.length === 0) return
    const ids = new Set(messages.map((message) => message.id))
    await this.options.queue.remove(device, ids, this.options.clock.now())
  }

  /**
   * Append, then look, as with sessions: whoever ends a message (cancel, expiry) writes the event and then looks into the
   * queue. So of the two one sees the other, and what has ended does not stay in the queue.
   */
  private async takeOutEnded(device: string, messages: readonly StoredMessage[]): Promise<void> {
    const finals = await Promise.all(messages.map((message) => this.options.events.readFinal(message.id)))
    const ended = messages.filter((_, index) => finals[index] !== null)
    await this.withdraw(device, ended)
  }

  /** For the trace. It decides nothing, so what the store does not take is left out. */
  async tell({ id }: StoredMessage, why: QueueReason | ''): Promise<void> {
    const { clock, events, log } = this.options
    try {
      await events.trace(id, { step: 'queued', atMs: clock.now(), reason: why })
    } catch (error) {
      log.debug({ error, id }, 'the trace of a message has a gap')
    }
  }

  private scheduleExpiry(message: StoredMessage, queueSequence: number): Promise<void> {
    return this.options.expiry.addQueued(message, queueSequence, this.options.clock.now())
  }

  private async place(device: string, message: StoredMessage, again: boolean, known: QueueEntry | null | undefined) {
    const { queue } = this.options
    let last = known === undefined ? await queue.last(device) : known
    for (let race = 0; race < RACES_MAX; race++) {
      // Also where an append of ours was stored and its answer was lost.
      if (last?.record.message.id === message.id) {
        // What that append still had to do.
        if (last.record.evicted.length > 0) await queue.deleteEvicted(device, await queue.walkAll(device, last))
        return { result: 'present' as const, sequence: last.sequence, last }
      }
      const plan = await this.plan(device, message, again, last)
      if ('result' in plan) return plan
      // Without a list of evicted these get out of reach: whoever queued them may not have come as far as their entry.
      if (plan.record.evicted.length === 0) await this.noteAll(plan.toDelete)
      const sequence = await queue.tryAppend(device, plan.record, plan.follows)
      if (sequence !== null) {
        await queue.delete(device, sequencesOf(plan.toDelete))
        return { result: 'queued' as const, sequence, last: { sequence, record: plan.record } }
      }
      last = await queue.last(device)
    }
    throw new BrokerError('unavailable', `the queue of ${device} does not stand still`)
  }

  private async noteAll(entries: readonly QueueEntry[]): Promise<void> {
    await Promise.all(entries.map((entry) => this.scheduleExpiry(entry.record.message, entry.sequence)))
  }

  /**
   * Whether a message that may have been in the queue has ended meanwhile: appended again, it would push out another one, and
   * be counted twice when it is pushed out itself.
   *
   * Invariant: nothing is appended after its drop was counted. The event is read after `last`, the record that the append
   * has to follow: a drop that is counted before that has its event, and one that is counted later makes the append fail.
   * A first delivery was in no queue, unless another router was given the message as well: it is asked for where drops are.
   */
  private async hasEnded(message: StoredMessage, again: boolean, last: QueueEntry | null): Promise<boolean> {
    if (!again && (last === null || last.record.dropped === 0)) return false
    return (await this.options.events.readFinal(message.id)) !== null
  }

  private async plan(device: string, message: StoredMessage, again: boolean, last: QueueEntry | null) {
    const nowMs = this.options.clock.now()
    if (last === null) return this.asFirst(message, again, nowMs)
    const { depth, evicted } = last.record
    // `depth` is an upper bound: below the limit there is nothing to count, and nothing to look for.
    if (!again && depth < this.options.queueMax && message.collapseKey === '' && evicted.length === 0) {
      if (await this.hasEnded(message, again, last)) return { result: 'ended' as const, sequence: 0, last }
      return { record: next(last, message, nowMs), follows: last.sequence, toDelete: [] } satisfies Plan
    }
    const entries = await this.options.queue.walkAll(device, last)
    const newest = entries.at(-1)
    if (!newest) return this.asFirst(message, again, nowMs)
    return this.planWith(entries, newest, message, again, nowMs)
  }

  private async asFirst(message: StoredMessage, again: boolean, nowMs: number) {
    if (await this.hasEnded(message, again, null)) return { result: 'ended' as const, sequence: 0, last: null }
    return { record: first(message, nowMs), follows: 0, toDelete: [] } satisfies Plan
  }

  private async planWith(
    entries: QueueEntry[],
    newest: QueueEntry,
    message: StoredMessage,
    again: boolean,
    nowMs: number,
  ) {
    const listed = new Set(newest.record.evicted)
    const owed = entries.filter((entry) => !listed.has(entry.record.message.id))
    const present = owed.find((entry) => entry.record.message.id === message.id)
    if (present) {
      await this.options.queue.deleteEvicted(message.device, entries)
      return { result: 'present' as const, sequence: present.sequence, last: newest }
    }
    if (await this.hasEnded(message, again, newest)) return { result: 'ended' as const, sequence: 0, last: newest }
    const sameKey = owed.map((entry) => entry.record.message).filter((other) => collapses(other, message))
    // Ids are ordered by time: a late one does not replace what came after it.
    if (sameKey.some((other) => other.id > message.id)) {
      return { result: 'replaced' as const, sequence: 0, last: newest }
    }
    const collapsed = await this.endAll(sameKey, 'collapsed', nowMs)
    const rest = owed.filter((entry) => !collapsed.has(entry.record.message.id))
    const excess = distinct(rest).slice(0, Math.max(0, distinct(rest).length + 1 - this.options.queueMax))
    const dropped = await this.drop(excess, nowMs)
    const pushedOut = new Set(excess.map((evictedEntry) => evictedEntry.id))
    const survivors = rest.filter((entry) => !pushedOut.has(entry.record.message.id))
    const toDelete = entries.filter((entry) => !survivors.includes(entry))
    const total = newest.record.dropped + dropped
    const depth = distinct(survivors).length + 1
    // From the old end the chain stays whole, and the evicted in reach are listed; otherwise the survivors are.
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

  /** How many of the evicted are dropped by this queue and not counted yet. */
  private async drop(evicted: StoredMessage[], nowMs: number): Promise<number> {
    const outcomes = await Promise.all(evicted.map((evictedEntry) => this.end(evictedEntry, 'dropped', nowMs)))
    return outcomes.filter((outcome) => outcome.won || outcome.existing.kind === 'dropped').length
  }

  private async endAll(messages: StoredMessage[], kind: FinalKind, nowMs: number): Promise<Set<bigint>> {
    await Promise.all(messages.map((message) => this.end(message, kind, nowMs)))
    return new Set(messages.map((message) => message.id))
  }

  private end(message: StoredMessage, kind: FinalKind, atMs: number) {
    const { id, project, application, device } = message
    return this.options.events.final(id, { kind, atMs, project, application, device, reason: '' })
  }
}

/** Null where it went well. */
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

/** The messages of a queue, oldest first, copies once. */
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
