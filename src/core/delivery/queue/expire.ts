/**
 * Expire: writes the final event of queued messages that have expired, and removes them from the queues. It reads EXPIRY
 * by buckets of time.
 *
 * Any number of processes may run it at once: the first final event counts, and a second delete is harmless.
 */
import type { Clock } from '../../../clock.js'
import { groupBy, mapAtOnce } from '../../../collections.js'
import type { Logger } from '../../../observe/log.js'
import type { EventLog } from '../../../store/events.js'
import type { ExpiryEntry, ExpiryLog } from '../../../store/expiry.js'
import type { DeviceQueue } from '../../../store/queue.js'
import { BucketStep, REQUESTS_AT_ONCE } from '../schedule/buckets.js'

export interface ExpireOptions {
  clock: Clock
  log: Logger
  events: EventLog
  expiry: ExpiryLog
  queue: DeviceQueue
  bucketMs: number
  /** See BucketStepOptions. */
  lookBack: number
}

export class ExpireStep {
  private readonly buckets: BucketStep<ExpiryEntry>

  constructor(options: ExpireOptions) {
    const { clock, log, expiry, bucketMs, lookBack } = options
    const act = (entries: ExpiryEntry[]) => expireQueued(options, entries)
    this.buckets = new BucketStep({ clock, log, name: 'expiry', buckets: expiry, bucketMs, lookBack, act })
  }

  start(): void {
    this.buckets.start()
  }

  stop(): Promise<void> {
    return this.buckets.stop()
  }
}

/** Ends these messages and removes them from the queues. Rejects with BrokerError. */
export async function expireQueued(
  { events, queue, clock }: Pick<ExpireOptions, 'events' | 'queue' | 'clock'>,
  entries: readonly ExpiryEntry[],
): Promise<void> {
  const byDevice = groupBy(entries, (entry) => entry.device)
  await mapAtOnce([...byDevice], REQUESTS_AT_ONCE, async ([device, own]) => {
    await Promise.all(
      own.map(({ id, project, application, expiresAtMs: atMs }) =>
        events.finalOfQueued(id, { kind: 'expired', atMs, project, application, device, reason: '' }),
      ),
    )
    // By id, because the record may have moved, or be gone after another end of the message.
    await queue.remove(device, new Set(own.map((entry) => entry.id)), clock.now())
    await queue.deleteUnreachable(
      device,
      own.map((entry) => ({ sequence: entry.queueSequence, id: entry.id })),
    )
  })
}
