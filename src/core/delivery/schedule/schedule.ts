/**
 * Schedule: appends due messages to the flow, as if they were accepted now. It reads SCHEDULE by buckets of time.
 *
 * Any number of processes may run it at once, and again after a crash: a message that the router has seen has its
 * `accepted` event, and an append to a subject that is not empty is refused. A message that was cancelled meanwhile has
 * its final event and does not go out.
 */
import type { StoredMessage } from '../../../../protocol/envelope.js'
import type { Clock } from '../../../clock.js'
import { groupBy, mapAtOnce } from '../../../collections.js'
import type { Logger } from '../../../observe/log.js'
import type { EventLog } from '../../../store/events.js'
import type { Scheduled, ScheduleLog } from '../../../store/schedule.js'
import type { MessageAppender } from '../accept/append-once.js'
import { BucketStep, REQUESTS_AT_ONCE } from './buckets.js'

export interface ScheduleOptions {
  clock: Clock
  log: Logger
  events: EventLog
  schedule: ScheduleLog
  appender: MessageAppender
  bucketMs: number
  /** See BucketStepOptions. */
  lookBack: number
}

/** The key under which group messages are collected. No device has an empty id. */
const GROUPS = ''

export class ScheduleStep {
  private readonly buckets: BucketStep<Scheduled>

  constructor(private readonly options: ScheduleOptions) {
    const { clock, log, schedule, bucketMs, lookBack } = options
    const act = (entries: Scheduled[]) => this.releaseAll(entries)
    this.buckets = new BucketStep({ clock, log, name: 'schedule', buckets: schedule, bucketMs, lookBack, act })
  }

  start(): void {
    this.buckets.start()
  }

  stop(): Promise<void> {
    return this.buckets.stop()
  }

  /** Releases the messages of one device, and those for groups, one after the other: in the order of acceptance. */
  private async releaseAll(entries: Scheduled[]): Promise<void> {
    const byDevice = groupBy(entries, (entry) => (entry.kind === 'unicast' ? entry.message.device : GROUPS))
    await mapAtOnce([...byDevice.values()], REQUESTS_AT_ONCE, (own) => this.releaseInOrder(own))
  }

  private async releaseInOrder(entries: Scheduled[]): Promise<void> {
    const { appender } = this.options
    for (const entry of entries) {
      if (entry.kind === 'group') await appender.appendGroupOnce(entry.record)
      else if (!(await this.hasEnded(entry.message))) await appender.appendUnlessInStream(entry.message)
    }
  }

  private async hasEnded(message: StoredMessage): Promise<boolean> {
    const { events } = this.options
    if ((await events.readFinal(message.id)) === null) return false
    // A cancel may have stopped before it wrote this event. No final event without an `accepted` event.
    await events.accepted(message)
    return true
  }
}
