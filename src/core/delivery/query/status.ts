/**
 * Message status: the outcome of a message from EVENTS, or its presence in MESSAGES before the router has seen it. The
 * present state of its device says why a target that has not ended is waiting.
 */
import type { GroupKind } from '../../../../protocol/subjects.js'
import type { Clock } from '../../../clock.js'
import { mapAtOnce } from '../../../collections.js'
import {
  type EventLog,
  FINAL_KINDS,
  type FinalEvent,
  type ScheduledEvent,
  type TargetsEvent,
  type TraceEvent,
} from '../../../store/events.js'
import type { ReceiptLog } from '../../../store/receipts.js'
import type { ScheduleLog } from '../../../store/schedule.js'
import type { MessageStatus, MessageType, ReadStatus, TraceEntry, WaitingTarget } from '../../domain/commands.js'
import type { RegistrationIdOf } from '../../domain/ids.js'
import { READS_AT_ONCE } from '../../domain/query-budget.js'
import type { MessageStatusWord, TraceStepWord } from '../../domain/statuses.js'
import type { SessionLookup } from '../route/session-recheck.js'
import type { FoundTarget, MessageFinder } from './find-message.js'
import type { IsConnected } from './presence.js'

export interface StatusOptions {
  clock: Clock
  events: EventLog
  finder: MessageFinder
  sessions: SessionLookup
  isConnected: IsConnected
  schedule: ScheduleLog
  /** The registrationId under which a sender knows a registration. */
  registrationIdOf: RegistrationIdOf
  /** The receipts of a group message. */
  readReceipts: ReceiptLog['read']
  /** See core.historyMinMs. */
  historyMinMs: number
}

/** Of a message with many targets, the reason is given for at most this many waiting targets. */
const WAITING_MAX = 100

const TYPE_OF_GROUP: Record<GroupKind, MessageType> = { app: 'application', topic: 'topic', user: 'user' }

export function createReadStatus(options: StatusOptions): ReadStatus {
  const { clock, events, finder, sessions, isConnected, schedule } = options
  const { registrationIdOf, historyMinMs, readReceipts } = options

  async function waits(target: string, found: FoundTarget, way: readonly TraceEvent[]): Promise<WaitingTarget> {
    const { device, atMs } = found.accepted
    if (found.scheduled) return { target, why: 'scheduled' }
    if (found.unrouted) return { target, why: 'routing', sinceMs: atMs }
    const session = await sessions.lookup(device, { authoritative: false })
    // A device that never connected, or left a moment ago, has no time since when it is offline.
    if (!session?.live) return { target, why: 'offline', ...(session && { sinceMs: session.atMs }) }
    if (!(await isConnected(device, session))) return { target, why: 'offline' }
    const queued = way.findLast(({ step }) => step === 'queued')
    const why = queued?.reason === 'window_full' ? 'window_full' : 'not_acknowledged'
    return { target, why, sinceMs: queued?.atMs ?? atMs }
  }

  async function waitsInMany(
    { id, registrationId }: TargetsEvent['targets'][number],
    scheduled: ScheduledEvent | null,
  ): Promise<WaitingTarget[]> {
    const found = await finder.find(id, scheduled?.bucket ?? null)
    return found ? [await waits(registrationId, found, await events.readTrace(id))] : []
  }

  async function ofTarget(id: bigint, scheduled: ScheduledEvent | null): Promise<MessageStatus | null> {
    const found = await finder.find(id, scheduled?.bucket ?? null)
    if (found === null) return null
    const { project, atMs, expiresAtMs } = found.accepted
    const [final, way] = await Promise.all([events.readFinal(id), events.readTrace(id)])
    const isOut = found.scheduled === null && !endedBefore(final, atMs)
    const trace = began(scheduled, atMs, isOut)
    for (const { step, atMs, reason } of way) trace.push(entry(atMs, step, reason))
    if (final) trace.push(entry(final.atMs, final.kind, final.reason))
    const target = registrationIdOf(found.accepted)
    const open = found.scheduled ? 'scheduled' : way.some(({ step }) => step === 'queued') ? 'queued' : 'accepted'
    const status = final?.kind ?? open
    return {
      id,
      project,
      status,
      type: 'device',
      target,
      acceptedAtMs: scheduled?.atMs ?? atMs,
      expiresAtMs,
      notBeforeMs: scheduled?.notBeforeMs ?? null,
      counts: countsOf([final]),
      trace: trace.sort((a, b) => a.atMs - b.atMs),
      waiting: final ? [] : [await waits(target, found, way)],
    }
  }

  async function ofTargets(
    id: bigint,
    { project, atMs, expiresAtMs, targets }: TargetsEvent,
    scheduled: ScheduledEvent | null,
  ): Promise<MessageStatus | null> {
    const finals = await mapAtOnce(targets, READS_AT_ONCE, (target) => events.readFinal(target.id))
    const open = targets.filter((_, index) => finals[index] === null).slice(0, WAITING_MAX)
    const waitsOf = await mapAtOnce(open, READS_AT_ONCE, (target) => waitsInMany(target, scheduled))
    // Their events have left the store, which those of the other targets do soon.
    if (waitsOf.some((own) => own.length === 0) && atMs < clock.now() - historyMinMs) return null
    const waiting = waitsOf.flat()
    const isWaiting = waiting.length > 0 && waiting.every(({ why }) => why === 'scheduled')
    const isOut = !isWaiting && !finals.every((final) => endedBefore(final, atMs))
    const trace = began(scheduled, atMs, isOut)
    for (const [index, final] of finals.entries()) {
      const target = targets[index]?.registrationId
      if (final && target) trace.push({ ...entry(final.atMs, final.kind, final.reason), target })
    }
    return {
      id,
      project,
      status: isWaiting ? 'scheduled' : overall(finals),
      type: 'devices',
      target: targets.map((target) => target.registrationId),
      // The targets' own records have the time at which they go out.
      acceptedAtMs: scheduled?.atMs ?? atMs,
      expiresAtMs,
      notBeforeMs: scheduled?.notBeforeMs ?? null,
      counts: countsOf(finals),
      trace: trace.sort((a, b) => a.atMs - b.atMs),
      waiting,
    }
  }

  async function ofGroup(id: bigint, scheduled: ScheduledEvent | null): Promise<MessageStatus | null> {
    const group = await events.readGroup(id)
    if (group === null) return scheduled && ofScheduledGroup(id, scheduled)
    // Transports before 0.2.0 append a record for each second to EVENTS.
    const receipts = [...(await readReceipts(id)), ...(await events.readReceipts(id))]
    const trace = began(scheduled, group.atMs, true)
    for (const { atMs, instance, worker, sent } of receipts) {
      trace.push({ atMs, step: 'sent', reason: `${sent} by ${instance}/${worker}` })
    }
    return {
      id,
      project: group.project,
      status: receipts.length > 0 ? 'sent' : 'accepted',
      type: TYPE_OF_GROUP[group.kind],
      target: group.name,
      acceptedAtMs: scheduled?.atMs ?? group.atMs,
      expiresAtMs: group.expiresAtMs,
      notBeforeMs: scheduled?.notBeforeMs ?? null,
      counts: { sent: receipts.reduce((sum, receipt) => sum + receipt.sent, 0) },
      trace,
      waiting: [],
    }
  }

  /** A group message that is still in SCHEDULE or was withdrawn from it. */
  async function ofScheduledGroup(id: bigint, scheduled: ScheduledEvent): Promise<MessageStatus | null> {
    const { project, type, bucket, atMs: acceptedAtMs, expiresAtMs, notBeforeMs } = scheduled
    const way = await events.readTrace(id)
    const found = await schedule.find(bucket, id)
    // If the cancel was interrupted, the message is still in SCHEDULE and goes out.
    const isCancelled = found === null && way.some(({ step }) => step === 'cancelled')
    const trace = [...began(scheduled, acceptedAtMs, false), ...way.map((e) => entry(e.atMs, e.step, e.reason))]
    const target = found?.entry?.kind === 'group' ? found.entry.record.name : ''
    const rest = { acceptedAtMs, expiresAtMs, notBeforeMs, counts: { sent: 0 }, trace, waiting: [] }
    return { id, project, status: isCancelled ? 'cancelled' : 'scheduled', type, target, ...rest }
  }

  return async (id) => {
    const [targets, scheduled] = await Promise.all([events.readTargets(id), events.readScheduled(id)])
    if (targets) return ofTargets(id, targets, scheduled)
    return (await ofTarget(id, scheduled)) ?? (await ofGroup(id, scheduled))
  }
}

/** The first steps of a trace: when the message was scheduled, and when it was accepted into the flow. */
function began(scheduled: ScheduledEvent | null, atMs: number, isOut: boolean): TraceEntry[] {
  const accepted: TraceEntry[] = isOut ? [{ atMs, step: 'accepted' }] : []
  return scheduled ? [{ atMs: scheduled.atMs, step: 'scheduled' }, ...accepted] : accepted
}

/** True if the target was cancelled before its time came, so that it never entered the flow. */
function endedBefore(final: FinalEvent | null, atMs: number): boolean {
  return final?.kind === 'cancelled' && final.atMs < atMs
}

function entry(atMs: number, step: TraceStepWord, reason: string): TraceEntry {
  return reason === '' ? { atMs, step } : { atMs, step, reason }
}

/** accepted = pending + the sum of all final events, as in the counters. */
function countsOf(finals: (FinalEvent | null)[]): Record<string, number> {
  const counts: Record<string, number> = { accepted: finals.length, pending: 0 }
  for (const kind of FINAL_KINDS) counts[kind] = 0
  for (const final of finals) {
    const state = final?.kind ?? 'pending'
    counts[state] = (counts[state] ?? 0) + 1
  }
  return counts
}

/** `accepted` while a target has not ended; the common end if all ended alike; otherwise `completed`. */
function overall(finals: (FinalEvent | null)[]): MessageStatusWord {
  const kinds = new Set(finals.map((final) => final?.kind ?? 'accepted'))
  if (kinds.has('accepted')) return 'accepted'
  return kinds.size === 1 ? ([...kinds][0] ?? 'completed') : 'completed'
}
