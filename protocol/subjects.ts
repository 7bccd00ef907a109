/**
 * Every NATS subject of Borealis, in one place. Core and transport meet only here and in envelope.ts.
 *
 * Tokens: <p> partition 0..63 of the device (PARTITIONS), <id> message id in decimal.
 */
import { PARTITIONS, partitionOf } from './message-id.js'

/** Streams that hold per-device subjects are split in so many, so that a cluster can spread their leaders. */
export const STREAM_SPLIT_DEFAULT = 4

/** Which of the `split` streams a partition lives in. */
export function streamIndexOf(partition: number, split: number): number {
  return partition % split
}

/** Subject filters of stream `index` of `split`, for a family such as `msg`. */
export function splitFilters(family: string, index: number, split: number): string[] {
  const filters: string[] = []
  for (let p = index; p < PARTITIONS; p += split) filters.push(`${family}.${p}.>`)
  return filters
}

// ---- core NATS: at most once ------------------------------------------------------------------

/** Router to worker: a TxBatch of frames to deliver. A publish that nobody serves is answered 503: the worker is dead. */
export const txSubject = (instance: string, worker: string) => `tx.${instance}.${worker}`

/** Worker to router: an RxBatch of outcomes. The router names it in each TxBatch. */
export const rxSubject = (router: string) => `rx.${router}`

/** Core to worker, request with reply: ControlRequest (catch a device up, close a device). */
export const controlSubject = (instance: string, worker: string) => `ctl.${instance}.${worker}`

/** Worker to core, request with reply, queue group CORE_QUEUE: what a device asked (DeviceRequest). */
export const DEVICE_REQUEST_SUBJECT = 'device.request'

/** Worker to core, request with reply, queue group CORE_QUEUE: outcomes of queued messages (SettleRequest). */
export const SETTLE_SUBJECT = 'settle.queued'

export const CORE_QUEUE = 'core'

// ---- streams: stored --------------------------------------------------------------------------

/** Accepted unicast messages, work for route: `msg.<p>.<device>.<id>` in MESSAGES_<i>. */
export const messagesStream = (index: number) => `MESSAGES_${index}`
export const messageSubject = (device: string, id: bigint) => `msg.${partitionOf(device)}.${device}.${id}`
/** Finds an accepted message that route has not finished, by id alone. */
export const messageByIdFilter = (partition: number, id: bigint) => `msg.${partition}.*.${id}`

/** What an offline device is owed: `queued.<p>.<device>` in QUEUE_<i>. */
export const queueStream = (index: number) => `QUEUE_${index}`
export const queueSubject = (device: string) => `queued.${partitionOf(device)}.${device}`

/** What became of each target: `event.<p>.<id>.<kind>` in EVENTS_<i>. */
export const eventsStream = (index: number) => `EVENTS_${index}`
export type EventSubjectKind = 'accepted' | 'final' | 'trace' | 'targets' | 'scheduled' | 'group' | 'receipts'
export const eventSubject = (partition: number, id: bigint, kind: EventSubjectKind) =>
  `event.${partition}.${id}.${kind}`
/** What an idempotency key stands for; `digest` is of project and key, `partition` of the digest. Kept as long as events are. */
export const idempotencySubject = (partition: number, digest: string) => `event.${partition}.k${digest}.key`
export const eventsOfIdFilter = (partition: number, id: bigint) => `event.${partition}.${id}.*`

/** Group messages, once each: `broadcast.<project>.<kind>.<name>` in BROADCAST; kind is app, topic or user; name is a token. */
export const BROADCAST_STREAM = 'BROADCAST'
export type GroupKind = 'app' | 'topic' | 'user'
export const broadcastSubject = (project: string, kind: GroupKind, name: string) =>
  `broadcast.${project}.${kind}.${subjectToken(name)}`

/** Queued messages by the minute in which they expire: `expiry.<minute>.<p>` in EXPIRY. */
export const EXPIRY_STREAM = 'EXPIRY'
export const expirySubject = (bucket: number, partition: number) => `expiry.${bucket}.${partition}`

/** Accepted messages that go out later, by the second (a setting) in which they are due: `schedule.<bucket>.<id>` in SCHEDULE. */
export const SCHEDULE_STREAM = 'SCHEDULE'
export const scheduleSubject = (bucket: number, id: bigint) => `schedule.${bucket}.${id}`

/** What NATS publishers send: `push.send.<project>` in INGRESS; what is invalid goes to `push.dead.<project>` in DEAD_LETTERS. */
export const INGRESS_STREAM = 'INGRESS'
export const ingressSubject = (project: string) => `push.send.${project}`
export const DEAD_LETTERS_STREAM = 'DEAD_LETTERS'
export const deadLetterSubject = (project: string) => `push.dead.${project}`

/**
 * What became of messages, told to app servers that asked for it: `push.event.<project>.<kind>` in PUSH_EVENTS. Two
 * durable consumers for each such project: of its NATS user, and of its webhook.
 */
export const OUTCOME_EVENTS_STREAM = 'PUSH_EVENTS'
export const outcomeEventSubject = (project: string, kind: string) => `push.event.${project}.${kind}`
export const outcomeEventsFilter = (project: string) => outcomeEventSubject(project, '*')
export const readerDurable = (project: string) => `reader-${project}`
export const webhookDurable = (project: string) => `webhook-${project}`

/**
 * Who has an application on a device, so that registrations are listed without a look at every device:
 * `reg.<project>.<application>.<user as a token>.<device>` in REGISTRATIONS. The devices' records decide.
 */
export const REGISTRATIONS_STREAM = 'REGISTRATIONS'
export const registrationSubject = (project: string, application: string, user: string, device: string) =>
  `reg.${project}.${application}.${subjectToken(user)}.${device}`
/** Absent: any. */
export const registrationFilter = (project: string, { application, user }: { application?: string; user?: string }) =>
  `reg.${project}.${application ?? '*'}.${user === undefined ? '*' : subjectToken(user)}.*`

/** What was done to projects, and by whom: `audit.<project>` in AUDIT; `audit.=` is about none (no project id has a `=`). */
export const AUDIT_STREAM = 'AUDIT'
export const auditSubject = (project: string | null) => `audit.${project ?? '='}`

// ---- tables (KV buckets) ----------------------------------------------------------------------

/** Bucket names; keys beside them. */
export const Bucket = {
  PROJECTS: 'PROJECTS', //       <project>
  APPLICATIONS: 'APPLICATIONS', // <application>
  FLEETS: 'FLEETS', //           <fleet>: enrolment key (hashed)
  CREDENTIALS: 'CREDENTIALS', // <credential>: who may use the admin API, as what (secret hashed)
  ASSERTIONS: 'ASSERTIONS', //   <digest>: client assertions that were used, as long as they are good
  DEVICES: 'DEVICES', //         <p>.<device>: registrations and subscriptions
  SESSIONS: 'SESSIONS', //       <p>.<device>: which worker has it
  WORKERS: 'WORKERS', //         <instance>.<worker>: lease
  REVOKED: 'REVOKED', //         device.<device> | registration.<device>.<number>: watched set
  CORES: 'CORES', //             node.<n> | router.<i>: leases of core processes
  COUNTERS: 'COUNTERS', //       <i>: checkpoint of the fold over EVENTS_<i>
  FEEDS: 'FEEDS', //             <project>: that it wants events, its webhook and the secrets that this signs with
  FEED_STATE: 'FEED_STATE', //   position.<i>: what of EVENTS_<i> was told | webhook.<project>: how its webhook does
} as const
export type BucketName = (typeof Bucket)[keyof typeof Bucket]

/** Key of a device in DEVICES and SESSIONS. */
export const deviceKey = (device: string) => `${partitionOf(device)}.${device}`

/** A name that may stand in a subject as it is; anything else goes through subjectToken(). */
export const SUBJECT_SAFE = /^[A-Za-z0-9_-]{1,64}$/

/** A name of any characters as one subject token: itself where that is safe, else `=` and base64url. */
export function subjectToken(name: string): string {
  return SUBJECT_SAFE.test(name) ? name : `=${Buffer.from(name, 'utf8').toString('base64url')}`
}
