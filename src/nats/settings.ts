/** Settings of the connection to NATS and of what is stored there. */
import Type, { type Static } from 'typebox'
import { STREAM_SPLIT_DEFAULT } from '../../protocol/subjects.js'
import { whole } from '../setting-types.js'

const KIB = 1024
const MIB = 1024 * KIB
const DAY_MS = 86_400_000

export const NatsSettings = Type.Object({
  url: Type.String({
    default: 'nats://127.0.0.1:4222',
    description: 'Where nats-server is; several addresses of one cluster are separated by commas.',
  }),
  user: Type.String({ default: '', description: 'User name; also names the inbox that answers come to.' }),
  password: Type.String({ default: '', description: 'Password of that user.' }),
  connectTimeoutMs: whole(10_000, 'How long a process waits at its start for nats-server before it fails.'),
  requestTimeoutMs: whole(5_000, 'How long an append or a read waits for its answer.'),
  reconnectWaitMs: whole(500, 'Shortest wait between two attempts to reconnect.'),
  reconnectJitterMs: whole(1_000, 'Longest random wait added to each attempt to reconnect.', 0),
  pingIntervalMs: whole(10_000, 'Time between two pings; the connection ends after two pings without an answer.'),
  appendsInFlightMax: whole(2_048, 'Most unanswered appends of one process; further appends wait.'),
  appendsWaitingMax: whole(16_384, 'Most appends that wait for a place in flight; further ones are refused.', 0),
  requestsInFlightMax: whole(16_384, 'Most unanswered requests and reads; further ones are refused as unavailable.'),
})
export type NatsSettings = Static<typeof NatsSettings>

export const StoreSettings = Type.Object({
  split: Type.Integer({
    minimum: 1,
    maximum: 64,
    default: STREAM_SPLIT_DEFAULT,
    description: 'Number of streams for each family of per-device subjects. Fixed once there is data.',
  }),
  replicas: Type.Integer({ minimum: 1, maximum: 5, default: 1, description: 'Copies of each stream in a cluster.' }),
  storage: Type.Union([Type.Literal('file'), Type.Literal('memory')], {
    default: 'file',
    description: 'Where JetStream keeps its streams; `memory` is for tests only.',
  }),
  duplicateWindowMs: whole(
    120_000,
    'How long MESSAGES, BROADCAST, INGRESS and PUSH_EVENTS recognise a repeated message id.',
    100,
  ),
  messagesBytesMax: whole(512 * MIB, 'Size of each MESSAGES stream; when it is full, messages are refused.'),
  queueBytesMax: whole(1024 * MIB, 'Size of each QUEUE stream.'),
  eventsBytesMax: whole(1024 * MIB, 'Size of each EVENTS stream.'),
  eventsAgeMs: whole(
    65 * DAY_MS,
    'How long the history of a message is kept: longer than a message can wait (30 days) and live (28 days) together.',
  ),
  broadcastBytesMax: whole(1024 * MIB, 'Size of BROADCAST; when it is full, group messages are refused.'),
  receiptsBytesMax: whole(
    64 * MIB,
    'Size of RECEIPTS, which holds how many copies of each group message each worker has sent; when it is full, the oldest are removed.',
  ),
  broadcastAgeMs: whole(28 * DAY_MS, 'How long group messages are kept: as long as the longest ttl.'),
  expiryBytesMax: whole(256 * MIB, 'Size of EXPIRY.'),
  scheduleBytesMax: whole(512 * MIB, 'Size of SCHEDULE, which holds messages that go out later.'),
  ingressBytesMax: whole(
    1024 * MIB,
    'Size of INGRESS, which holds the messages of NATS publishers. INGRESS accepts as many records of the greatest length as fit, and refuses more.',
  ),
  ingressRecordBytes: whole(32 * KIB, 'Longest record of INGRESS, body and headers; longer ones are refused.', 1_024),
  deadLettersBytesMax: whole(64 * MIB, 'Size of DEAD_LETTERS; when it is full, the oldest records are removed.'),
  deadLettersAgeMs: whole(7 * DAY_MS, 'How long invalid messages of NATS publishers are kept.'),
  outcomeEventsBytesMax: whole(
    512 * MIB,
    'Size of PUSH_EVENTS, which holds events for app servers; when it is full, the oldest are removed.',
  ),
  outcomeEventsAgeMs: whole(7 * DAY_MS, 'How long an event waits for its app server.'),
  outcomeEventsPerKindMax: whole(
    250_000,
    'Most events of one kind and project in PUSH_EVENTS; beyond it, the oldest of that kind and project are removed.',
  ),
  auditBytesMax: whole(64 * MIB, 'Size of AUDIT, the log of changes; when it is full, the oldest entries are removed.'),
  auditPerProjectMax: whole(
    10_000,
    'Most entries of one project in AUDIT, and of changes of no project; beyond it, the oldest of them are removed.',
  ),
  auditAgeMs: whole(400 * DAY_MS, 'How long entries of the log of changes are kept.'),
  tableBytesMax: whole(512 * MIB, 'Size of each table of devices and sessions, and of the list of registrations.'),
  smallTableBytesMax: whole(64 * MIB, 'Size of each other table.'),
})
export type StoreSettings = Static<typeof StoreSettings>
