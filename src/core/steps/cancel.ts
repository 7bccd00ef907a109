/**
 * cancel: the sender takes a message back. It competes for the final event like everyone else: a message that is on its
 * way is `delivered` or `cancelled`, whoever wrote first. A group message is in the log and can not be taken back.
 */
import type { Clock } from '../../clock.js'
import type { EventLog } from '../../store/events.js'
import type { ParkedQueue } from '../../store/parked.js'
import type { CancelMessage } from '../http/ports.js'
import type { MessageFinder } from './find-message.js'

export interface CancelOptions {
  clock: Clock
  events: EventLog
  finder: MessageFinder
  queue: ParkedQueue
}

export function createCancel({ clock, events, finder, queue }: CancelOptions): CancelMessage {
  async function cancelTarget(project: string, id: bigint): Promise<'cancelled' | 'already_final' | 'unknown'> {
    const found = await finder.find(id)
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

  return async (project, id) => {
    const parent = await events.readTargets(id)
    if (parent) {
      if (parent.project !== project) return 'unknown'
      const results = await Promise.all(parent.targets.map((target) => cancelTarget(project, target.id)))
      return results.includes('cancelled') ? 'cancelled' : 'already_final'
    }
    const result = await cancelTarget(project, id)
    if (result !== 'unknown') return result
    const group = await events.readGroup(id)
    return group?.project === project ? 'already_final' : 'unknown'
  }
}
