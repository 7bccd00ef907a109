/**
 * status: what became of a message, read from EVENTS, and from MESSAGES where route has not seen it yet. What a target
 * that has not ended waits for is seen where its device is now.
 */
import type { GroupKind } from '../../../protocol/subjects.js'
import { type EventLog, FINAL_KINDS, type FinalEvent, type TargetsEvent, type TraceEvent } from '../../store/events.js'
import type { MessageStatus, MessageType, ReadStatus, TraceEntry, WaitingTarget } from '../http/ports.js'
import type { FoundTarget, MessageFinder } from './find-message.js'
import type { SessionLookup } from './second-look.js'

export interface StatusOptions {
  events: EventLog
  finder: MessageFinder
  sessions: SessionLookup
  /** The registrationId that a sender knows a registration by. */
  registrationIdOf: (address: { project: string; application: string; device: string; registration: number }) => string
}

/** Of a message with many targets, so many that wait are looked after. */
const WAITING_MAX = 100

const TYPE_OF_GROUP: Record<GroupKind, MessageType> = { app: 'application', topic: 'topic', user: 'user' }

export function createReadStatus({ events, finder, sessions, registrationIdOf }: StatusOptions): ReadStatus {
  async function waits(target: string, found: FoundTarget, way: readonly TraceEvent[]): Promise<WaitingTarget> {
    const { device, atMs } = found.accepted
    if (found.unrouted) return { target, why: 'queued', sinceMs: atMs }
    const session = await sessions.lookup(device, { authoritative: false })
    // A device that never connected is as far away as can be.
    if (!session?.live) return { target, why: 'offline', ...(session && { sinceMs: session.atMs }) }
    const parked = way.findLast(({ step }) => step === 'parked')
    const why = parked?.reason === 'window_full' ? 'window_full' : 'not_acknowledged'
    return { target, why, sinceMs: parked?.atMs ?? atMs }
  }

  async function waitsInMany({ id, registrationId }: TargetsEvent['targets'][number]): Promise<WaitingTarget[]> {
    const found = await finder.find(id)
    return found ? [await waits(registrationId, found, await events.readTrace(id))] : []
  }

  async function ofTarget(id: bigint): Promise<MessageStatus | null> {
    const found = await finder.find(id)
    if (found === null) return null
    const { project, atMs, expiresAtMs } = found.accepted
    const [final, way] = await Promise.all([events.readFinal(id), events.readTrace(id)])
    const trace: TraceEntry[] = [{ atMs, step: 'accepted' }]
    for (const { step, atMs, reason } of way) trace.push(entry(atMs, step, reason))
    if (final) trace.push(entry(final.atMs, final.kind, final.reason))
    const target = registrationIdOf(found.accepted)
    const status = final?.kind ?? (way.some(({ step }) => step === 'parked') ? 'parked' : 'accepted')
    return {
      id,
      project,
      status,
      type: 'device',
      target,
      acceptedAtMs: atMs,
      expiresAtMs,
      counts: countsOf([final]),
      trace: trace.sort((a, b) => a.atMs - b.atMs),
      waiting: final ? [] : [await waits(target, found, way)],
    }
  }

  async function ofTargets(id: bigint, { project, atMs, expiresAtMs, targets }: TargetsEvent): Promise<MessageStatus> {
    const finals = await Promise.all(targets.map((target) => events.readFinal(target.id)))
    const trace: TraceEntry[] = [{ atMs, step: 'accepted' }]
    for (const [index, final] of finals.entries()) {
      const target = targets[index]?.registrationId
      if (final && target) trace.push({ ...entry(final.atMs, final.kind, final.reason), target })
    }
    const open = targets.filter((_, index) => finals[index] === null).slice(0, WAITING_MAX)
    return {
      id,
      project,
      status: overall(finals),
      type: 'devices',
      target: targets.map((target) => target.registrationId),
      acceptedAtMs: atMs,
      expiresAtMs,
      counts: countsOf(finals),
      trace: trace.sort((a, b) => a.atMs - b.atMs),
      waiting: (await Promise.all(open.map(waitsInMany))).flat(),
    }
  }

  async function ofGroup(id: bigint): Promise<MessageStatus | null> {
    const group = await events.readGroup(id)
    if (group === null) return null
    const receipts = await events.readReceipts(id)
    const trace: TraceEntry[] = [{ atMs: group.atMs, step: 'accepted' }]
    for (const { atMs, instance, worker, sent } of receipts) {
      trace.push({ atMs, step: 'sent', reason: `${sent} by ${instance}/${worker}` })
    }
    return {
      id,
      project: group.project,
      status: receipts.length > 0 ? 'sent' : 'accepted',
      type: TYPE_OF_GROUP[group.kind],
      target: group.name,
      acceptedAtMs: group.atMs,
      expiresAtMs: group.expiresAtMs,
      counts: { sent: receipts.reduce((sum, receipt) => sum + receipt.sent, 0) },
      trace,
      waiting: [],
    }
  }

  return async (id) => {
    const targets = await events.readTargets(id)
    if (targets) return ofTargets(id, targets)
    return (await ofTarget(id)) ?? (await ofGroup(id))
  }
}

function entry(atMs: number, step: string, reason: string): TraceEntry {
  return reason === '' ? { atMs, step } : { atMs, step, reason }
}

/** accepted = pending + everything final, as in the counters. */
function countsOf(finals: (FinalEvent | null)[]): Record<string, number> {
  const counts: Record<string, number> = { accepted: finals.length, pending: 0 }
  for (const kind of FINAL_KINDS) counts[kind] = 0
  for (const final of finals) {
    const state = final?.kind ?? 'pending'
    counts[state] = (counts[state] ?? 0) + 1
  }
  return counts
}

/** `accepted` while a target is open; the one end that all had; `completed` where they ended differently. */
function overall(finals: (FinalEvent | null)[]): string {
  const kinds = new Set(finals.map((final) => final?.kind ?? 'accepted'))
  if (kinds.has('accepted')) return 'accepted'
  return kinds.size === 1 ? ([...kinds][0] ?? 'completed') : 'completed'
}
