/** Settings of the delivery core: its limits, its times, and the roles of a process. */
import Type, { type Static } from 'typebox'
import { whole } from '../setting-types.js'

const role = (description: string) => Type.Boolean({ default: true, description })

export const CoreSettings = Type.Object(
  {
    gateway: role('This process serves the HTTP API.'),
    routing: role('This process can route messages. One process at a time routes each MESSAGES stream.'),
    settling: role('This process settles queued messages that devices have acknowledged.'),
    expiring: role('This process can run the expiry step. One process at a time runs it.'),
    counting: role('This process can compute the counters. One process at a time folds each EVENTS stream.'),
    publishing: role('This process can publish outcomes for app servers. One process at a time publishes them.'),
    webhooks: role(
      'This process can post to webhooks, so it needs access to their addresses. One process at a time posts.',
    ),
    publishInflightMax: whole(1_000, 'Most outcomes of one EVENTS stream that are being published.'),
    leaseMs: whole(3_000, 'A process that has not renewed its lease for this time loses it to another one.', 100),
    routePendingMax: whole(8_192, 'Most messages of one stream in flight in a router.'),
    ackWaitMs: whole(
      30_000,
      'A message that is not acknowledged within this time is delivered to a router again.',
      100,
    ),
    silentMs: whole(5_000, 'A message that the device has not acknowledged within this time is queued.', 10),
    sweepMs: whole(250, 'Interval between two checks for devices that have not acknowledged.'),
    batchItemsMax: whole(256, 'Most frames in one batch for a worker.'),
    batchBytesMax: whole(512 * 1024, 'Most bytes of frames in one batch for a worker: less than NATS max_payload.'),
    sessionsCachedMax: whole(200_000, 'Most sessions that a router caches.'),
    queueMax: whole(100, 'Most messages queued for one device; beyond it the oldest are dropped.'),
    controlTimeoutMs: whole(2_000, 'Time in which a worker has to confirm that it will read a queue.'),
    retryMs: whole(1_000, 'Wait before a message is delivered again after a temporary error.'),
    drainMs: whole(2_000, 'Time for which a stopping router waits for the messages in flight.', 0),
    settleInFlightMax: whole(
      128,
      'Most settle requests in flight; further ones get no answer, and workers repeat them.',
    ),
    expiryBucketMs: whole(
      10_000,
      'Queued messages that expire within the same span of this length expire together.',
      100,
    ),
    expiryLookBack: whole(
      30,
      'Number of rounds in which a past span is read again: a killed nats-server may restore deleted entries.',
      0,
    ),
    scheduling: role('This process can release scheduled messages. One process at a time releases them.'),
    scheduleBucketMs: whole(
      1_000,
      'Messages that are due within the same span of this length are sent together at its end.',
      100,
    ),
    scheduleLookBack: whole(10, 'The same as expiryLookBack, for the schedule.', 0),
    historyMinMs: whole(
      600_000,
      'Shortest time for which the events of an ended message are kept if EVENTS is short of space; idempotency keys are kept six times as long.',
      1_000,
    ),
    checkpointMs: whole(500, 'Interval between two writes of the counters while they change.'),
    recentMax: whole(1_000, 'Newest messages of a project that can be listed, for each EVENTS stream.', 0),
    counterDaysMax: whole(62, 'Days with counters of their own; the counters of older days are added up in one row.'),
  },
  { additionalProperties: false, default: {}, description: 'The delivery core.' },
)
export type CoreSettings = Static<typeof CoreSettings>
