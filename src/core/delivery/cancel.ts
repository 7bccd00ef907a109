/**
 * cancel: the sender takes a message back. A cancel competes for the final event like everybody else: a message that is on
 * its way ends as `delivered` or as `cancelled`, whichever event is stored first. A group message stands in the log and
 * cannot be taken back, except while it waits for its time.
 *
 * A cancel that was answered while the device was away wins: the device never gets the message. Three rules keep that,
 * wherever the message is when the cancel comes:
 *
 * - In MESSAGES, not seen by a router: the cancel stores the `accepted` event first. A router that takes the message now
 *   finds that event present and gives the message back (route.ts).
 * - In a router's hands: the cancel waits until the router has finished with it. The router looks for the final event
 *   before it finishes, and takes what has ended out of the queue.
 * - In the queue: the cancel takes it out.
 */
import { CodedError } from '../../../protocol/errors.js'
import { type Clock, sleep } from '../../clock.js'
import type { EventLog, ScheduledEvent } from '../../store/events.js'
import type { DeviceQueue } from '../../store/queue.js'
import type { ScheduleLog } from '../../store/schedule.js'
import type { CancelMessage } from '../domain/commands.js'
import type { MessageFinder } from './query/find-message.js'
import type { SessionLookup } from './route/session-recheck.js'

export interface CancelOptions {
  clock: Clock
  events: EventLog
  finder: MessageFinder
  queue: DeviceQueue
  schedule: ScheduleLog
  sessions: SessionLookup
}

/** How long a cancel waits for a router, and how often it looks. */
const ROUTER_MS_MAX = 5_000
const LOOK_MS_MIN = 10
const LOOK_MS_MAX = 250

/** So near its time a group message may be going out: clocks of core processes may differ by so much. */
const GOING_OUT_MS = 10_000

export function createCancel({ clock, events, finder, queue, schedule, sessions }: CancelOptions): CancelMessage {
  async function cancelTarget(project: string, id: bigint, bucket: number | null): ReturnType<CancelMessage> {
    const found = await finder.find(id, bucket)
    if (found === null || found.accepted.project !== project) return 'unknown'
    const { application, device } = found.accepted
    const isClaimed = await finder.claim(found)
    const atMs = clock.now()
    const outcome = await events.final(id, { kind: 'cancelled', atMs, project, application, device, reason: '' })
    if (!outcome.won && outcome.existing.kind !== 'cancelled') return 'already_final'
    // A repeated cancel does the rest as well: the attempt before it may have stopped after its event.
    if (isClaimed) await finder.withdraw(found)
    await queue.remove(device, new Set([id]), atMs)
    await routerIsDone(id, device)
    return 'cancelled'
  }

  /**
   * Throws CodedError `unavailable` where the device is away and its message is still in a router's hands: whether the
   * message reaches the queue is not known then, and a repeated cancel finds out.
   */
  async function routerIsDone(id: bigint, device: string): Promise<void> {
    let pauseMs = LOOK_MS_MIN
    for (let waitedMs = 0; await finder.isRouting(id, device); waitedMs += pauseMs) {
      if (waitedMs >= ROUTER_MS_MAX) {
        // A connected device has the message, or is about to: nothing was promised about it.
        const session = await sessions.lookup(device, { authoritative: true })
        if (session?.live) return
        throw new CodedError('unavailable', 'the message is still being routed: repeat the cancel')
      }
      await sleep(clock, pauseMs)
      pauseMs = Math.min(2 * pauseMs, LOOK_MS_MAX)
    }
  }

  async function cancelGroup(id: bigint, { bucket, notBeforeMs }: ScheduledEvent): ReturnType<CancelMessage> {
    const atMs = clock.now()
    const found = atMs < notBeforeMs - GOING_OUT_MS ? await schedule.find(bucket, id) : null
    if (found === null) {
      const trace = await events.readTrace(id)
      return trace.some(({ step }) => step === 'cancelled') ? 'cancelled' : 'already_final'
    }
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
