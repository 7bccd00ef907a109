/**
 * Cancel: the sender withdraws a message. A cancel competes for the final event as every other end does: of `delivered`
 * and `cancelled`, the first that is stored counts. A group message that is in the log cannot be withdrawn. A scheduled
 * group message can be withdrawn until shortly before its time.
 *
 * A cancel that was answered while the device was away wins: the device never gets the message. Three rules guarantee
 * that, wherever the message is at the time of the cancel:
 *
 * - In MESSAGES, not seen by a router: the cancel stores the `accepted` event first. A router that takes the message later
 *   finds that event and nacks the message (route.ts).
 * - In flight in a router: the cancel waits until the router has finished with it. The router reads the final event before
 *   it finishes, and removes an ended message from the queue.
 * - In the queue: the cancel removes it.
 */
import { CodedError } from '../../../protocol/errors.js'
import { type Clock, sleep } from '../../clock.js'
import { mapAtOnce } from '../../collections.js'
import type { EventLog, ScheduledEvent } from '../../store/events.js'
import type { DeviceQueue } from '../../store/queue.js'
import type { ScheduleLog } from '../../store/schedule.js'
import type { CancelMessage } from '../domain/commands.js'
import { READS_AT_ONCE } from '../domain/query-budget.js'
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

type Refused = 'already_final' | 'unknown'

/** A target that ended as cancelled, now or before. */
interface Ended {
  id: bigint
  device: string
}

/** How long a cancel waits for a router, and the shortest and longest pause between two checks. */
const ROUTER_MS_MAX = 5_000
const CHECK_MS_MIN = 10
const CHECK_MS_MAX = 250

/** A group message counts as going out from this long before its time, because the clocks of cores may differ. */
const GOING_OUT_MS = 10_000

export function createCancel({ clock, events, finder, queue, schedule, sessions }: CancelOptions): CancelMessage {
  /** Writes the final event and removes the target from its place. A router may have it in flight all the same. */
  async function endTarget(project: string, id: bigint, bucket: number | null): Promise<Ended | Refused> {
    const found = await finder.find(id, bucket)
    if (found === null || found.accepted.project !== project) return 'unknown'
    const { application, device } = found.accepted
    const isClaimed = await finder.claim(found)
    const atMs = clock.now()
    const outcome = await events.final(id, { kind: 'cancelled', atMs, project, application, device, reason: '' })
    if (!outcome.won && outcome.existing?.kind !== 'cancelled') return 'already_final'
    // A repeated cancel does this as well, because the earlier attempt may have stopped after its event.
    if (isClaimed) await finder.withdraw(found)
    await queue.remove(device, new Set([id]), atMs)
    return { id, device }
  }

  /**
   * Waits until no router has one of the targets in flight. Throws CodedError `unavailable` if that takes too long and the
   * device is away: the target may then still reach the queue, and a repeated cancel finds out.
   */
  async function routersAreDone(ended: Ended[]): Promise<void> {
    const deadlineMs = clock.now() + ROUTER_MS_MAX
    await mapAtOnce(ended, READS_AT_ONCE, ({ id, device }) => routerIsDone(id, device, deadlineMs))
  }

  async function routerIsDone(id: bigint, device: string, deadlineMs: number): Promise<void> {
    let pauseMs = CHECK_MS_MIN
    while (await finder.isRouting(id, device)) {
      if (clock.now() >= deadlineMs) {
        // A connected device has the message or is about to get it. A cancel promises nothing then.
        const session = await sessions.lookup(device, { authoritative: true })
        if (session?.live) return
        throw new CodedError('unavailable', 'the message is still being routed: repeat the cancel')
      }
      await sleep(clock, pauseMs)
      pauseMs = Math.min(2 * pauseMs, CHECK_MS_MAX)
    }
  }

  async function cancelGroup(id: bigint, { bucket, notBeforeMs }: ScheduledEvent): ReturnType<CancelMessage> {
    const atMs = clock.now()
    const found = atMs < notBeforeMs - GOING_OUT_MS ? await schedule.find(bucket, id) : null
    if (found === null) {
      const trace = await events.readTrace(id)
      return trace.some(({ step }) => step === 'cancelled') ? 'cancelled' : 'already_final'
    }
    // First the trace, then the delete: the trace is the only evidence of a message that is in no stream.
    await events.trace(id, { step: 'cancelled', atMs, reason: '' })
    await schedule.remove([found.sequence])
    return 'cancelled'
  }

  return async (project, id) => {
    const scheduled = await events.readScheduled(id)
    const bucket = scheduled?.bucket ?? null
    const parent = await events.readTargets(id)
    if (parent) {
      if (parent.project !== project) return 'unknown'
      const results = await mapAtOnce(parent.targets, READS_AT_ONCE, (target) => endTarget(project, target.id, bucket))
      const ended = results.filter((result) => typeof result === 'object')
      await routersAreDone(ended)
      return ended.length > 0 ? 'cancelled' : 'already_final'
    }
    const result = await endTarget(project, id, bucket)
    if (typeof result === 'object') {
      await routersAreDone([result])
      return 'cancelled'
    }
    if (result !== 'unknown') return result
    const group = await events.readGroup(id)
    if (group === null && scheduled?.project === project) return cancelGroup(id, scheduled)
    return group?.project === project ? 'already_final' : 'unknown'
  }
}
