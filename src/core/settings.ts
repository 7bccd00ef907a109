/** Settings of the delivery core: what a router holds, how long it waits, and which roles a process has. */
import Type, { type Static } from 'typebox'
import { whole } from '../setting-types.js'

const role = (description: string) => Type.Boolean({ default: true, description })

export const CoreSettings = Type.Object(
  {
    gateway: role('This process serves the HTTP API.'),
    routing: role('This process takes part in routing: one process at a time routes each MESSAGES stream.'),
    settling: role('This process settles queued messages that devices acknowledged.'),
    expiring: role('This process takes part in the expiry step: one at a time runs it.'),
    counting: role('This process takes part in the counters: one at a time folds each EVENTS stream.'),
    publishing: role('This process takes part in telling app servers of ends: one at a time does.'),
    webhooks: role(
      'This process takes part in delivering to webhooks: one at a time does. It reaches their addresses.',
    ),
    publishInflightMax: whole(1_000, 'Events for app servers under way at once, of one EVENTS stream.'),
    leaseMs: whole(3_000, 'A process that did not renew its lease for so long has lost it to another.', 100),
    routePendingMax: whole(8_192, 'Messages of one stream under way at once, in one router.'),
    ackWaitMs: whole(30_000, 'A message not done by then is delivered to a router again.', 100),
    silentMs: whole(5_000, 'A device that did not acknowledge for so long has the message queued.', 10),
    sweepMs: whole(250, 'Between two looks for silent devices.'),
    batchItemsMax: whole(256, 'Most frames in one batch for a worker.'),
    batchBytesMax: whole(512 * 1024, 'Most bytes of frames in one batch for a worker: less than NATS max_payload.'),
    sessionsCachedMax: whole(200_000, 'Sessions remembered by one router.'),
    queueMax: whole(100, 'Messages queued for one device; beyond it the oldest are dropped.'),
    controlTimeoutMs: whole(2_000, 'How long a worker has to confirm that it will read a queue.'),
    retryMs: whole(1_000, 'A message that could not be brought to an end now comes again after this time.'),
    drainMs: whole(2_000, 'How long a stopping router waits for what is under way.', 0),
    settleInFlightMax: whole(128, 'Settle requests under way at once; more are not answered, and come again.'),
    expiryBucketMs: whole(10_000, 'Queued messages that expire within one such span are expired together.', 100),
    expiryLookBack: whole(
      30,
      'How many rounds a span is looked at again after it was passed or emptied: a killed nats-server brings back deletes.',
      0,
    ),
    scheduling: role('This process takes part in the schedule: one at a time gives messages out whose time has come.'),
    scheduleBucketMs: whole(
      1_000,
      'Messages that are due within one such span go out together, when it has ended.',
      100,
    ),
    scheduleLookBack: whole(10, 'As expiryLookBack, of the schedule.', 0),
    historyMinMs: whole(
      600_000,
      'How long the events of a message that has ended are kept at least, however short of room EVENTS is; idempotency keys stay for six times as long.',
      1_000,
    ),
    checkpointMs: whole(500, 'Between two writes of the counters, while they change.'),
    recentMax: whole(1_000, 'Newest messages of a project that can be listed, for each EVENTS stream.', 0),
    counterDaysMax: whole(62, 'Days for which counters are kept apart; what is older is added up in one row.'),
  },
  { additionalProperties: false, default: {}, description: 'The delivery core.' },
)
export type CoreSettings = Static<typeof CoreSettings>
