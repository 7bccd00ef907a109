/**
 * schedule: gives messages whose time has come to the flow, as if they were accepted now. It reads SCHEDULE by buckets of
 * time.
 *
 * Any number of processes may run it at once, and again after a crash: what route has seen has its `accepted` event, and an
 * append to a subject that is not empty is refused. What was cancelled meanwhile has its end, and does not go out.
 */
import type { StoredMessage } from '../../../../protocol/envelope.js'
import type { Clock } from '../../../clock.js'
import type { Logger } from '../../../observe/log.js'
import type { EventLog } from '../../../store/events.js'
import type { Scheduled, ScheduleLog } from '../../../store/schedule.js'
import type { Release } from '../accept/release.js'
import { BucketStep } from './buckets.js'

export interface ScheduleOptions {
  clock: Clock
  log: Logger
  events: EventLog
  schedule: ScheduleLog
  release: Release
  bucketMs: number
  /** See BucketStepOptions. */
  lookBack: number
}

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

  /** Those of one device, and those of groups, one after the other: in the order in which they were accepted. */
  private async releaseAll(entries: Scheduled[]): Promise<void> {
    const lanes = new Map<string, Scheduled[]>()
    for (const entry of entries) {
      const lane = entry.kind === 'unicast' ? entry.message.device : ''
      const own = lanes.get(lane)
      if (own) own.push(entry)
      else lanes.set(lane, [entry])
    }
    await Promise.all([...lanes.values()].map((own) => this.releaseInOrder(own)))
  }

  private async releaseInOrder(entries: Scheduled[]): Promise<void> {
    const { release } = this.options
    for (const entry of entries) {
      if (entry.kind === 'group') await release.group(entry.record)
      else if (!(await this.hasEnded(entry.message))) await release.unicast(entry.message)
    }
  }

  private async hasEnded(message: StoredMessage): Promise<boolean> {
    const { events } = this.options
    if ((await events.readFinal(message.id)) === null) return false
    // Whoever cancelled it may have ended before this: a final event never stands alone.
    await events.accepted(message)
    return true
  }
}
