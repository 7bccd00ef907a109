/**
 * Every NATS subject of Borealis. This file and envelope.ts are all that core and transport share about NATS.
 *
 * Tokens: <p> is the partition of the device, 0..63 (PARTITIONS); <id> is a message id in decimal.
 */
import { PARTITIONS, partitionOf } from './message-id.js'

/**
 * The number of streams that each family of per-device subjects is split into, so that a cluster can spread the
 * leaders.
 */
export const STREAM_SPLIT_DEFAULT = 4

/** The index of the stream, of `split` streams, that holds a partition. */
export function streamIndexOf(partition: number, split: number): number {
  return partition % split
}

/** The subject filters of stream `index` of `split`, for a family such as `msg`. */
export function splitFilters(family: string, index: number, split: number): string[] {
  const filters: string[] = []
  for (let p = index; p < PARTITIONS; p += split) filters.push(`${family}.${p}.>`)
  return filters
}

// ---- core NATS: at most once ------------------------------------------------------------------

/** Router to worker: a TxBatch of frames to deliver. If nobody listens, NATS answers 503: the worker is dead. */
export const txSubject = (instance: string, worker: string) => `tx.${instance}.${worker}`

/** Worker to router: an RxBatch of reports. Each TxBatch contains the name of the router. */
export const rxSubject = (router: string) => `rx.${router}`

/** Core to worker, request with reply: ControlRequest (catch a device up, refresh it, close it). */
export const controlSubject = (instance: string, worker: string) => `ctl.${instance}.${worker}`
/**
 * The beginning of the reply subjects of control requests to an instance. A transport may answer here and nowhere else:
 * the inboxes of a core also receive the answers of JetStream.
 */
export const controlAnswers = (instance: string) => `answer.${instance}`

/** Worker to core, queue group CORE_QUEUE: a device has left another instance for this worker (MovedNotice). */
export const MOVED_SUBJECT = 'session.moved'

/** Worker to core, request with reply, queue group CORE_QUEUE: the request of a device (DeviceRequest). */
export const DEVICE_REQUEST_SUBJECT = 'device.request'

/** Worker to core, request with reply, queue group CORE_QUEUE: acknowledgements of queued messages (SettleRequest). */
export const SETTLE_SUBJECT = 'settle.queued'

export const CORE_QUEUE = 'core'

// ---- streams: stored --------------------------------------------------------------------------

/** Accepted unicast messages that route has not finished: `msg.<p>.<device>.<id>` in MESSAGES_<i>. */
export const messagesStream = (index: number) => `MESSAGES_${index}`
export const messageSubject = (device: string, id: bigint) => `msg.${partitionOf(device)}.${device}.${id}`
/** Finds such a message by its id alone. */
export const messageByIdFilter = (partition: number, id: bigint) => `msg.${partition}.*.${id}`

/** The messages that wait for an offline device: `queued.<p>.<device>` in QUEUE_<i>. */
export const queueStream = (index: number) => `QUEUE_${index}`
export const queueSubject = (device: string) => `queued.${partitionOf(device)}.${device}`

/** The events of each target: `event.<p>.<id>.<kind>` in EVENTS_<i>. */
export const eventsStream = (index: number) => `EVENTS_${index}`
export type EventSubjectKind = 'accepted' | 'final' | 'trace' | 'targets' | 'scheduled' | 'group' | 'receipts'
export const eventSubject = (partition: number, id: bigint, kind: EventSubjectKind) =>
  `event.${partition}.${id}.${kind}`
/**
 * The message that an idempotency key has made, kept as long as events. `digest` is made of project and key,
 * `partition` of the digest.
 */
export const idempotencySubject = (partition: number, digest: string) => `event.${partition}.k${digest}.key`
export const eventsOfIdFilter = (partition: number, id: bigint) => `event.${partition}.${id}.*`

/** Group messages, one record for each: `broadcast.<project>.<kind>.<name as a token>` in BROADCAST. */
export const BROADCAST_STREAM = 'BROADCAST'
export const BROADCAST_FILTER = 'broadcast.>'
export type GroupKind = 'app' | 'topic' | 'user'
export const broadcastSubject = (project: string, kind: GroupKind, name: string) =>
  `broadcast.${project}.${kind}.${subjectToken(name)}`

/**
 * How many copies of a group message one worker has sent: `receipt.<id>.<instance>.<worker>.<part>` in RECEIPTS. Each
 * record is a running total and replaces the one before.
 */
export const RECEIPTS_STREAM = 'RECEIPTS'
export const receiptSubject = (
  id: bigint,
  { instance, worker, part }: { instance: string; worker: string; part: number },
) => `receipt.${id}.${instance}.${worker}.${part}`
export const receiptsFilter = (id: bigint) => `receipt.${id}.>`
/** The receipts of all workers of an instance. */
export const receiptsOfInstance = (instance: string) => `receipt.*.${instance}.*.*`

/** References to queued messages by the minute in which they expire: `expiry.<minute>.<p>` in EXPIRY. */
export const EXPIRY_STREAM = 'EXPIRY'
export const expirySubject = (bucket: number, partition: number) => `expiry.${bucket}.${partition}`

/**
 * Accepted messages with `notBefore`, by the bucket of time in which they are due: `schedule.<bucket>.<id>` in
 * SCHEDULE.
 */
export const SCHEDULE_STREAM = 'SCHEDULE'
export const scheduleSubject = (bucket: number, id: bigint) => `schedule.${bucket}.${id}`

/**
 * Messages from NATS publishers: `push.send.<project>` in INGRESS. Invalid ones are copied to `push.dead.<project>` in
 * DEAD_LETTERS.
 */
export const INGRESS_STREAM = 'INGRESS'
export const ingressSubject = (project: string) => `push.send.${project}`
export const DEAD_LETTERS_STREAM = 'DEAD_LETTERS'
export const deadLetterSubject = (project: string) => `push.dead.${project}`

/**
 * Outcomes of messages for app servers that have turned events on: `push.event.<project>.<kind>` in PUSH_EVENTS. Each
 * such project has two durable consumers, one for its NATS user and one for its webhook.
 */
export const OUTCOME_EVENTS_STREAM = 'PUSH_EVENTS'
export const outcomeEventSubject = (project: string, kind: string) => `push.event.${project}.${kind}`
export const outcomeEventsFilter = (project: string) => outcomeEventSubject(project, '*')
export const readerDurable = (project: string) => `reader-${project}`
export const webhookDurable = (project: string) => `webhook-${project}`

/**
 * An index of registrations, so that they can be listed without reading the record of every device:
 * `reg.<project>.<application>.<user as a token>.<device>` in REGISTRATIONS. The devices' records are authoritative.
 */
export const REGISTRATIONS_STREAM = 'REGISTRATIONS'
export const registrationSubject = (project: string, application: string, user: string, device: string) =>
  `reg.${project}.${application}.${subjectToken(user)}.${device}`
/** A field that is absent matches everything. */
export const registrationFilter = (project: string, { application, user }: { application?: string; user?: string }) =>
  `reg.${project}.${application ?? '*'}.${user === undefined ? '*' : subjectToken(user)}.*`

/**
 * Changes by administrators: `audit.<project>` in AUDIT; `audit.=` for changes of no project (no project id contains
 * `=`); `audit.=sign_in` for sign-ins that failed.
 */
export const AUDIT_STREAM = 'AUDIT'
export const AUDIT_FILTER = 'audit.*'
export const auditSubject = (project: string | null) => `audit.${project ?? '='}`
export const SIGN_INS_AUDIT_SUBJECT = 'audit.=sign_in'

// ---- tables (KV buckets) ----------------------------------------------------------------------

/** The names of the buckets, with their keys beside them. */
export const Bucket = {
  PROJECTS: 'PROJECTS', //       <project>
  APPLICATIONS: 'APPLICATIONS', // <application>
  FLEETS: 'FLEETS', //           <fleet>: enrolment key (hashed)
  CREDENTIALS: 'CREDENTIALS', // <credential>: a login of the admin API with its role (secret hashed)
  ASSERTIONS: 'ASSERTIONS', //   <digest>: client assertions that were used, as long as they are valid
  DEVICES: 'DEVICES', //         <p>.<device>: registrations and subscriptions
  SESSIONS: 'SESSIONS', //       <p>.<device>: the worker that has the device
  WORKERS: 'WORKERS', //         <instance>.<worker>: lease
  REVOKED: 'REVOKED', //         device.<device> | fleet.<fleet>: credentials that are void, watched
  CORES: 'CORES', //             node.<n> | router.<i>: leases of core processes | keyring.<run>: what each has read
  COUNTERS: 'COUNTERS', //       <i>: checkpoint of the fold over EVENTS_<i>
  FEEDS: 'FEEDS', //             <project>: that events are on, and its webhook with the signing secrets
  STORE: 'STORE', //             format: which versions can read the store | keyring: which keyring the installation has
  FEED_STATE: 'FEED_STATE', //   position.<i>: the part of EVENTS_<i> that was published | webhook.<project>: its state
} as const
export type BucketName = (typeof Bucket)[keyof typeof Bucket]

/** Notices between cores: a registration has ended. */
export const ENDED_SUBJECT = 'ended'

/** Notice of an operator to cores and workers, without a body: read the file with the keys again. */
export const KEYRING_CHANGED_SUBJECT = 'keyring.changed'

/** The beginnings of keys in REVOKED. (Release 0.1 wrote `registration.` too.) */
export const revokedDevicePrefix = 'device.'
export const revokedFleetPrefix = 'fleet.'

/** The key of a device in DEVICES and SESSIONS. */
export const deviceKey = (device: string) => `${partitionOf(device)}.${device}`

/** Names that are a subject token as they are; all other names go through subjectToken(). */
export const SUBJECT_SAFE = /^[A-Za-z0-9_-]{1,64}$/

/** Any name as one subject token: the name itself if it is safe, else `=` and base64url. */
export function subjectToken(name: string): string {
  return SUBJECT_SAFE.test(name) ? name : `=${Buffer.from(name, 'utf8').toString('base64url')}`
}
