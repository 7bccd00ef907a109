/**
 * History: which events leave an EVENTS stream that is short of room. The events of the oldest messages that have ended
 * leave first, together with their idempotency keys. A message whose events left is answered as one that is older than
 * `store.eventsAgeMs`: it is unknown.
 *
 * Rules, each of which keeps a promise:
 * - An event of a message that has not ended stays: it is appended again (`moved`) before the window is purged.
 * - Events stay for `historyMinMs`, and until the counters and the outcomes have read them. Within that time the store can
 *   deliver an old message again, or a sender repeats it under its key, and only the events tell that it has ended.
 * - Nothing leaves that is younger than the oldest record in MESSAGES, for the same reason.
 * - The `accepted` event of a message leaves before its final event, never after it. An `accepted` event alone would be a
 *   message that never ends. So where an `accepted` event is moved, its final event is moved too.
 */
import { timeOfId } from '../../../../protocol/message-id.js'
import type { Clock } from '../../../clock.js'
import { groupBy } from '../../../collections.js'
import { isConflict, type Log, type LogRecord } from '../../../nats/broker.js'
import { decodeAccepted, decodeFinal, decodeTargets, type EventLog, MOVED_HEADERS } from '../../../store/events.js'
import { decodeKey } from '../../../store/idempotency.js'
import type { ScheduleLog } from '../../../store/schedule.js'
import type { MessageFinder } from '../query/find-message.js'
import type { GiveWayPolicy, Settled } from './give-way.js'
import type { Room } from './room.js'

export interface HistoryOptions {
  /** The service clock: a core whose own clock is wrong must not forget what is young. */
  clock: Clock
  index: number
  /** EVENTS_<index> and MESSAGES_<index>. */
  stream: Log
  messages: Log
  events: EventLog
  finder: MessageFinder
  schedule: ScheduleLog
  room: Room
  /** The sequence of EVENTS_<index> up to which all readers have read for good. */
  readUpTo(): Promise<number>
  historyMinMs: number
}

/** An idempotency key stays for this many times `historyMinMs`. */
const KEY_LIVES = 6
/** A message that waits in MESSAGES for longer holds back no events: it cannot be read, or nobody routes. */
const WAITING_MS_MAX = 86_400_000
/** A message was scheduled if it is accepted so much later than its id was made. */
const LATER_MS = 5_000
const LOOKS_AT_ONCE = 64

export class History implements GiveWayPolicy {
  readonly stream: Log

  constructor(private readonly options: HistoryOptions) {
    this.stream = options.stream
  }

  share(): Promise<number> {
    return this.options.room.shareOfEvents(this.options.index)
  }

  async bound(): Promise<{ sequence: number; storedAtMs: number }> {
    const { clock, messages, readUpTo, historyMinMs } = this.options
    const [oldest, sequence] = await Promise.all([messages.next('>', 1, { authoritative: true }), readUpTo()])
    const nowMs = clock.now()
    const waitingSinceMs = Math.max(oldest?.storedAtMs ?? nowMs, nowMs - WAITING_MS_MAX)
    return { sequence, storedAtMs: Math.min(nowMs - historyMinMs, waitingSinceMs - 1) }
  }

  async settle(records: LogRecord[]): Promise<Settled> {
    const byMessage = [...groupBy(records, ({ subject }) => subject.split('.')[2] ?? '').entries()]
    let stayed = 0
    let messages = 0
    for (let from = 0; from < byMessage.length; from += LOOKS_AT_ONCE) {
      const some = byMessage.slice(from, from + LOOKS_AT_ONCE)
      const staying = await Promise.all(some.map(([token, own]) => this.whatStays(token, own)))
      await Promise.all(staying.map((own) => this.moveAll(own)))
      for (const [index, own] of staying.entries()) {
        stayed += own.length
        if (own.length === 0 && some[index]?.[1].some(endsMessage)) messages++
      }
    }
    this.options.room.refresh()
    return { until: records.at(-1)?.sequence ?? 0, stayed, messages }
  }

  /** Of the records of one message or key, oldest first: those that stay, and the final event if it has to follow them. */
  private async whatStays(token: string, own: LogRecord[]): Promise<LogRecord[]> {
    const kinds = new Map(own.map((record) => [kindOf(record), record]))
    const key = kinds.get('key')
    if (key) return (await this.keyStays(key)) ? own : []
    const id = BigInt(token)
    const final = kinds.get('final')
    if (final) return (await this.isInSchedule(id, kinds.get('accepted'), final)) ? own : []
    const state = await this.stateOf(id, kinds)
    if (state === 'ended') return []
    return state === 'open' ? own : [...own, state]
  }

  /** The state of a message without a final event in the window. A final event that is too young to leave is returned. */
  private async stateOf(id: bigint, kinds: ReadonlyMap<string, LogRecord>): Promise<'open' | 'ended' | LogRecord> {
    const { events } = this.options
    if (kinds.has('targets')) {
      const targets = decodeTargets((kinds.get('targets') as LogRecord).body)
      const ids = targets.targets.map((target) => target.id)
      return (await this.isAnyOpen(ids, targets.atMs, id)) ? 'open' : 'ended'
    }
    if (kinds.has('group') || kinds.has('receipts')) {
      const group = await events.readGroup(id)
      return group !== null && group.expiresAtMs > this.options.clock.now() ? 'open' : 'ended'
    }
    const final = await events.finalRecord(id)
    if (final) return this.isYoung(final) || (await this.wasMoved(id, kinds.get('accepted'))) ? final : 'ended'
    if (kinds.has('accepted') || (await events.readAccepted(id)) !== null) return 'open'
    const scheduled = await events.readScheduled(id)
    if (scheduled === null) return 'ended'
    if (scheduled.type === 'devices') {
      const targets = await events.readTargets(id)
      const ids = targets?.targets.map((target) => target.id) ?? []
      return (await this.isAnyOpen(ids, scheduled.atMs, id)) ? 'open' : 'ended'
    }
    const isWaiting = (await this.options.schedule.find(scheduled.bucket, id)) !== null
    return isWaiting || scheduled.expiresAtMs > this.options.clock.now() ? 'open' : 'ended'
  }

  /** True if an attempt that was interrupted moved this event, and perhaps not the final event after it. */
  private async wasMoved(id: bigint, accepted: LogRecord | undefined): Promise<boolean> {
    return accepted !== undefined && (await this.options.events.acceptedRecord(id))?.sequence !== accepted.sequence
  }

  /** True if one of these targets has not ended, or not for long enough. */
  private async isAnyOpen(ids: readonly bigint[], atMs: number, parent: bigint): Promise<boolean> {
    const { events, finder } = this.options
    let bucket: number | null | undefined
    const isOpen = async (id: bigint) => {
      const final = await events.finalRecord(id)
      if (final) return this.isYoung(final)
      bucket ??= (await events.readScheduled(parent))?.bucket ?? null
      return (await finder.find(id, bucket)) !== null
    }
    if (atMs > this.options.clock.now()) return true
    for (let from = 0; from < ids.length; from += LOOKS_AT_ONCE) {
      const open = await Promise.all(ids.slice(from, from + LOOKS_AT_ONCE).map(isOpen))
      if (open.includes(true)) return true
    }
    return false
  }

  private async keyStays({ body }: LogRecord): Promise<boolean> {
    const { historyMinMs } = this.options
    const { id, acceptedAtMs, targets } = decodeKey(body)
    if (acceptedAtMs > this.options.clock.now() - KEY_LIVES * historyMinMs) return true
    return this.isAnyOpen(targets.length > 0 ? targets : [id], acceptedAtMs, id)
  }

  /** An ended message that is still in SCHEDULE would go out if its final event left. */
  private async isInSchedule(id: bigint, accepted: LogRecord | undefined, final: LogRecord): Promise<boolean> {
    const { events, schedule } = this.options
    const known = accepted ? decodeAccepted(accepted.body) : null
    const isSuspect =
      known === null || known.atMs > timeOfId(id) + LATER_MS || decodeFinal(final.body).kind === 'cancelled'
    if (!isSuspect) return false
    const parent = (known ?? (await events.readAccepted(id)))?.parent ?? id
    const scheduled = await events.readScheduled(parent)
    return scheduled !== null && (await schedule.find(scheduled.bucket, id)) !== null
  }

  private isYoung({ storedAtMs }: LogRecord): boolean {
    return storedAtMs > this.options.clock.now() - this.options.historyMinMs
  }

  /** In order: the final event of a message comes last. */
  private async moveAll(records: LogRecord[]): Promise<void> {
    for (const { subject, body, sequence } of records) {
      // A message has several steps in its trace; every other event is the only one of its subject.
      const expected = subject.endsWith('.trace') ? {} : { expectedLastSubjectSequence: sequence }
      try {
        await this.stream.append(subject, body, { headers: MOVED_HEADERS, usesReserve: true, ...expected })
      } catch (error) {
        // It was moved before, by an attempt that did not come to its purge.
        if (!isConflict(error)) throw error
      }
    }
  }
}

const kindOf = ({ subject }: LogRecord) => subject.split('.')[3] ?? ''
const endsMessage = (record: LogRecord) => kindOf(record) === 'final' || kindOf(record) === 'group'
