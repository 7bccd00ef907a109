/**
 * cancel: the sender takes a message back. It competes for the final event like everyone else: a message that is on its
 * way is `delivered` or `cancelled`, whoever wrote first. A group message is in the log and can not be taken back, but
 * where it was to go out later and its time is not near.
 */
import type { Clock } from '../../clock.js'
import type { EventLog, ScheduledEvent } from '../../store/events.js'
import type { DeviceQueue } from '../../store/queue.js'
import type { ScheduleLog } from '../../store/schedule.js'
import type { CancelMessage } from '../domain/commands.js'
import type { MessageFinder } from './query/find-message.js'

export interface CancelOptions {
  clock: Clock
  events: EventLog
  finder: MessageFinder
  queue: DeviceQueue
  schedule: ScheduleLog
}

/** So near its time a group message may be going out: clocks of core processes may differ by so much. */
const GOING_OUT_MS = 10_000

export function createCancel({ clock, events, finder, queue, schedule }: CancelOptions): CancelMessage {
  async function cancelTarget(project: string, id: bigint, bucket: number | null): ReturnType<CancelMessage> {
    const found = await finder.find(id, bucket)
    if (found === null || found.accepted.project !== project) return 'unknown'
    const { application, device } = found.accepted
    const atMs = clock.now()
    const outcome = await events.final(id, { kind: 'cancelled', atMs, project, application, device, reason: '' })
    if (!outcome.won && outcome.existing.kind !== 'cancelled') return 'already_final'
    // Also where it was cancelled before: that attempt may have ended between the event and the delete.
    await finder.withdraw(found)
    await queue.remove(device, new Set([id]), atMs)
    return outcome.won ? 'cancelled' : 'already_final'
  }

  async function cancelGroup(id: bigint, { bucket, notBeforeMs }: ScheduledEvent): ReturnType<CancelMessage> {
    const atMs = clock.now()
    const found = atMs < notBeforeMs - GOING_OUT_MS ? await schedule.find(bucket, id) : null
    if (found === null) return 'already_final'
    // Before the record is gone: a message that is nowhere has this in its trace.
    await events.trace(id, { step: 'cancelled', atMs, reason: '' })
    await schedule.forget([found.sequence])
    return 'cancelled'
  }

  return async (project, id) => {
    const scheduled = await events.readScheduled(id)
    const bucket = scheduled?.bucket ?? null
    const parent = await events.readTargets(id)
    if (parent) {
      if (parent.project !== project) return 'unknown'
      const results = await Promise.all(parent.targets.map((target) => cancelTarget(project, target.id, bucket)))
      return results.includes('cancelled') ? 'cancelled' : 'already_final'
    }
    const result = await cancelTarget(project, id, bucket)
    if (result !== 'unknown') return result
    const group = await events.readGroup(id)
    if (group === null && scheduled?.project === project) return cancelGroup(id, scheduled)
    return group?.project === project ? 'already_final' : 'unknown'
  }
}
