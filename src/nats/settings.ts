/** Settings of the connection to NATS and of what is stored there. */
import Type, { type Static } from 'typebox'
import { STREAM_SPLIT_DEFAULT } from '../../protocol/subjects.js'

const KIB = 1024
const MIB = 1024 * KIB
const DAY_MS = 86_400_000

const whole = (value: number, description: string, minimum = 1) =>
  Type.Integer({ minimum, default: value, description })

export const NatsSettings = Type.Object({
  url: Type.String({
    default: 'nats://127.0.0.1:4222',
    description: 'Where nats-server is; several addresses of one cluster are separated by commas.',
  }),
  user: Type.String({ default: '', description: 'User name; also names the inbox that answers come to.' }),
  password: Type.String({ default: '', description: 'Password of that user.' }),
  connectTimeoutMs: whole(10_000, 'How long a start waits for the server before it fails.'),
  requestTimeoutMs: whole(5_000, 'How long an append or a read waits for its answer.'),
  reconnectWaitMs: whole(500, 'Least wait between two attempts to reconnect.'),
  reconnectJitterMs: whole(1_000, 'Random wait added to each attempt to reconnect.', 0),
  pingIntervalMs: whole(10_000, 'Between two pings; two without an answer end the connection.'),
  appendsInFlightMax: whole(2_048, 'Appends without an answer, of one process; more wait.'),
  appendsWaitingMax: whole(16_384, 'Appends that wait for a place in flight; more are refused as unavailable.', 0),
  requestsInFlightMax: whole(16_384, 'Requests and reads without an answer; more are refused as unavailable.'),
})
export type NatsSettings = Static<typeof NatsSettings>

export const StoreSettings = Type.Object({
  split: Type.Integer({
    minimum: 1,
    maximum: 64,
    default: STREAM_SPLIT_DEFAULT,
    description: 'Into how many streams each family of per-device subjects is split. Fixed once there is data.',
  }),
  replicas: Type.Integer({ minimum: 1, maximum: 5, default: 1, description: 'Copies of each stream in a cluster.' }),
  storage: Type.Union([Type.Literal('file'), Type.Literal('memory')], {
    default: 'file',
    description: 'Where streams are kept; memory is for tests only.',
  }),
  duplicateWindowMs: whole(
    120_000,
    'How long a repeated message id is recognised by MESSAGES, BROADCAST, INGRESS and PUSH_EVENTS.',
    100,
  ),
  messagesBytesMax: whole(512 * MIB, 'Size of each MESSAGES stream; beyond it, messages are refused.'),
  queueBytesMax: whole(1024 * MIB, 'Size of each QUEUE stream.'),
  eventsBytesMax: whole(1024 * MIB, 'Size of each EVENTS stream.'),
  eventsAgeMs: whole(
    65 * DAY_MS,
    'How long the history of a message is kept: longer than it may wait (30 days) and live (28 days) together.',
  ),
  broadcastBytesMax: whole(1024 * MIB, 'Size of BROADCAST; beyond it, group messages are refused.'),
  broadcastAgeMs: whole(28 * DAY_MS, 'How long group messages are kept: the longest ttl.'),
  expiryBytesMax: whole(256 * MIB, 'Size of EXPIRY.'),
  scheduleBytesMax: whole(512 * MIB, 'Size of SCHEDULE, messages that go out later.'),
  ingressBytesMax: whole(
    1024 * MIB,
    'Size of INGRESS, what NATS publishers send: it takes as many records as there is room for of the longest kind, and refuses more.',
  ),
  ingressRecordBytes: whole(32 * KIB, 'Longest record of INGRESS, body and headers; longer ones are refused.', 1_024),
  deadLettersBytesMax: whole(64 * MIB, 'Size of DEAD_LETTERS; the oldest give way.'),
  deadLettersAgeMs: whole(7 * DAY_MS, 'How long invalid messages of NATS publishers are kept.'),
  outcomeEventsBytesMax: whole(512 * MIB, 'Size of PUSH_EVENTS, what app servers are told; the oldest give way.'),
  outcomeEventsAgeMs: whole(7 * DAY_MS, 'How long an event waits for its app server.'),
  outcomeEventsPerKindMax: whole(250_000, 'Events of one kind of one project in PUSH_EVENTS; its oldest give way.'),
  auditBytesMax: whole(64 * MIB, 'Size of AUDIT, what was done to projects; the oldest give way.'),
  auditAgeMs: whole(400 * DAY_MS, 'How long it is kept who changed what.'),
  tableBytesMax: whole(512 * MIB, 'Size of each table of devices and sessions, and of the list of registrations.'),
  smallTableBytesMax: whole(64 * MIB, 'Size of each other table.'),
})
export type StoreSettings = Static<typeof StoreSettings>
