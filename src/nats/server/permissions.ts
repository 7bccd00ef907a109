/**
 * The subjects that each NATS user may use. Each user has an inbox prefix of its own (connect.ts), so that no user reads
 * the answers to another.
 *
 * Permissions guard against mistakes and against reading. They do not stop an attacker: nats-server does not check reply
 * subjects against them. accounts.ts builds the walls.
 */
import {
  BROADCAST_FILTER,
  BROADCAST_STREAM,
  Bucket,
  controlAnswers,
  DEVICE_REQUEST_SUBJECT,
  ENDED_SUBJECT,
  EXPIRY_STREAM,
  eventsStream,
  INGRESS_STREAM,
  ingressSubject,
  KEYRING_CHANGED_SUBJECT,
  MOVED_SUBJECT,
  messagesStream,
  OUTCOME_EVENTS_STREAM,
  outcomeEventsFilter,
  queueStream,
  REGISTRATIONS_STREAM,
  readerDurable,
  receiptsOfInstance,
  SCHEDULE_STREAM,
  SETTLE_SUBJECT,
} from '../../../protocol/subjects.js'
import { inboxPrefixOf } from '../connect.js'

export type NatsUser = { user: string; password: string } & (
  | { role: 'core' | 'admin' }
  /** No restriction: for tests and for the operator's own tools, never for a component. */
  | { role: 'unrestricted' }
  /** With `instance`: only the subjects of that instance. Without: the subjects of all instances. */
  | { role: 'transport'; instance?: string }
  /** For transports of versions before 0.2.0, which expect the account of the cores, and for all transports beside such cores. */
  | { role: 'legacyTransport' }
  | { role: 'publisher'; project: string }
  /** Reads the events of one project, live and from the durable consumer of that project. */
  | { role: 'subscriber'; project: string }
)

export interface Permissions {
  publish: string[] | { allow: string[] }
  subscribe: string[]
  allow_responses?: { max: number; expires: string }
}

export function permissionsOf(user: NatsUser, split: number): Permissions {
  const inbox = `${inboxPrefixOf(user.user)}.>`
  switch (user.role) {
    case 'core':
      return {
        publish: corePublishes(split),
        subscribe: [
          ...['rx.*', 'rx.*.*', DEVICE_REQUEST_SUBJECT, SETTLE_SUBJECT, ENDED_SUBJECT, MOVED_SUBJECT, inbox],
          ...[KEYRING_CHANGED_SUBJECT, CONTROL_ANSWERS],
        ],
      }
    case 'transport': {
      const instance = user.instance ?? '*'
      const { services, streams } = transportSubjects(instance, split)
      return { publish: [...services, `ctl.${instance}.*`], subscribe: [...streams, inbox] }
    }
    case 'legacyTransport': {
      const { services, streams } = transportSubjects('*', split)
      return {
        publish: [
          ...services,
          ...['ctl.*.*', 'event.*.*.receipts'],
          ...consumerSubjects([BROADCAST_STREAM, `KV_${Bucket.REVOKED}`]),
        ],
        subscribe: [...streams, inbox],
        // The answer to a control request goes to the inbox of the requester, which these permissions do not name.
        allow_responses: { max: 1, expires: '10s' },
      }
    }
    case 'publisher':
      return { publish: [ingressSubject(user.project)], subscribe: [inbox] }
    case 'subscriber': {
      // A subscriber may not create consumers: a consumer of 2.9 delivers stored records to any subject.
      const durable = `${OUTCOME_EVENTS_STREAM}.${readerDurable(user.project)}`
      return {
        publish: [...['MSG.NEXT', 'INFO'].map((verb) => `$JS.API.CONSUMER.${verb}.${durable}`), `$JS.ACK.${durable}.>`],
        subscribe: [outcomeEventsFilter(user.project), inbox],
      }
    }
    case 'unrestricted':
      return { publish: ['>'], subscribe: ['>'] }
    case 'admin':
      return {
        // After a change to a device, administration notifies the worker of that device.
        publish: [
          ...['$JS.API.>', '$JS.ACK.>', '$JS.FC.>', '$KV.>', 'audit.*', 'ctl.*.*'],
          ...[ENDED_SUBJECT, KEYRING_CHANGED_SUBJECT],
          // `borealis backup` and `restore`: chunks of snapshots, and records that were written while one was taken.
          ...['$JS.SNAPSHOT.>', 'msg.>', 'event.>', 'expiry.>', 'schedule.>', 'broadcast.>', 'reg.>', 'receipt.>'],
          ...['push.dead.*', 'push.event.*.*'],
        ],
        subscribe: [inbox, CONTROL_ANSWERS],
      }
  }
}

function corePublishes(split: number): string[] {
  return [
    ...[
      'msg.>',
      'queued.>',
      'event.>',
      'expiry.>',
      'schedule.>',
      'broadcast.>',
      'push.dead.*',
      'push.event.*.*',
      '$KV.>',
      'audit.*',
      'reg.>',
    ],
    ...['tx.*.*', 'ctl.*.*', ENDED_SUBJECT],
    // For answers to device and settle requests, from this account (`_INBOX`) and from those of transports (`_R_`).
    // allow_responses would make the server remember each delivered record.
    ...['_INBOX.>', '_R_.>'],
    ...['$JS.ACK.>', '$JS.FC.>'],
    ...['CREATE', 'UPDATE', 'INFO', 'MSG.GET'].map((verb) => `$JS.API.STREAM.${verb}.*`),
    ...[...family(eventsStream, split), EXPIRY_STREAM, BROADCAST_STREAM, `KV_${Bucket.REVOKED}`].map(
      (stream) => `$JS.API.STREAM.PURGE.${stream}`,
    ),
    ...[
      ...[...family(messagesStream, split), ...family(queueStream, split)],
      ...[EXPIRY_STREAM, INGRESS_STREAM, REGISTRATIONS_STREAM, SCHEDULE_STREAM],
    ].map((stream) => `$JS.API.STREAM.MSG.DELETE.${stream}`),
    '$JS.API.DIRECT.GET.>',
    '$JS.API.CONSUMER.CREATE.*',
    '$JS.API.CONSUMER.DURABLE.CREATE.*.*',
    '$JS.API.CONSUMER.MSG.NEXT.*.*',
    '$JS.API.CONSUMER.DELETE.*.*',
    '$JS.API.CONSUMER.INFO.*.*',
  ]
}

/** Every subject through which the transports of an instance and the cores meet. `*` for all instances. */
export function transportSubjects(instance: string, split: number): { services: string[]; streams: string[] } {
  const read = [
    ...family(queueStream, split),
    ...[Bucket.SESSIONS, Bucket.DEVICES, Bucket.WORKERS, Bucket.REVOKED, Bucket.STORE].map((name) => `KV_${name}`),
    BROADCAST_STREAM,
  ]
  const described = [BROADCAST_STREAM, `KV_${Bucket.STORE}`, `KV_${Bucket.REVOKED}`]
  return {
    /** Requests to cores, and to JetStream: messages from the transport. */
    services: [
      ...['rx.*', SETTLE_SUBJECT, DEVICE_REQUEST_SUBJECT, MOVED_SUBJECT, receiptsOfInstance(instance)],
      ...[`${controlAnswers(instance)}.*.*`, `$KV.${Bucket.SESSIONS}.>`, `$KV.${Bucket.WORKERS}.${instance}.*`],
      ...read.flatMap((stream) => [`$JS.API.DIRECT.GET.${stream}`, `$JS.API.DIRECT.GET.${stream}.>`]),
      ...read.map((stream) => `$JS.API.STREAM.MSG.GET.${stream}`),
      ...described.map((stream) => `$JS.API.STREAM.INFO.${stream}`),
    ],
    /** Messages to the transport. Of BROADCAST and REVOKED it hears when to read (reading-tail.ts). */
    streams: [
      ...[`tx.${instance}.*`, `ctl.${instance}.*`, BROADCAST_FILTER, `$KV.${Bucket.REVOKED}.>`],
      KEYRING_CHANGED_SUBJECT,
    ],
  }
}

const consumerSubjects = (streams: string[]) =>
  streams.flatMap((stream) => [
    `$JS.API.CONSUMER.CREATE.${stream}`,
    `$JS.API.CONSUMER.DELETE.${stream}.*`,
    `$JS.FC.${stream}.>`,
  ])

/** Answers of transports of all instances to control requests. */
const CONTROL_ANSWERS = `${controlAnswers('*')}.*.*`

const family = (nameOf: (index: number) => string, split: number) => Array.from({ length: split }, (_, i) => nameOf(i))
