/**
 * Accept: stores a validated command and only then answers it.
 *
 * The promise of a 2xx answer starts here: every target of the message is stored. If the result of a write is unknown (a
 * time-out, a lost connection), the answer is a refusal. The message may arrive all the same; with an idempotency key, the
 * sender can repeat it without harm.
 */
import { EncodeError, encodeNotify, encodeNotifyGroupBody } from '../../../../protocol/encode.js'
import { type BroadcastRecord, encodeStoredMessage, type StoredMessage } from '../../../../protocol/envelope.js'
import { CodedError } from '../../../../protocol/errors.js'
import { partitionOf } from '../../../../protocol/message-id.js'
import { messageSubject, messagesStream } from '../../../../protocol/subjects.js'
import type { Clock } from '../../../clock.js'
import { mapAtOnce } from '../../../collections.js'
import { type Broker, BrokerError } from '../../../nats/broker.js'
import { BroadcastLog } from '../../../store/broadcast.js'
import type { EventLog } from '../../../store/events.js'
import { IdempotencyKeys, type KeyRecord } from '../../../store/idempotency.js'
import type { Scheduled, ScheduleLog } from '../../../store/schedule.js'
import { SplitLog } from '../../../store/split.js'
import type { AcceptCommand, Accepted, AcceptMessage, AcceptTarget } from '../../domain/commands.js'
import type { IdSource } from '../../domain/ids.js'
import type { Booking, Room } from '../room/room.js'
import { MessageAppender } from './append-once.js'
import { PositionIds } from './position-ids.js'

export interface AcceptOptions {
  broker: Broker
  clock: Clock
  /** Number of streams in each of the families MESSAGES and EVENTS. */
  split: number
  events: EventLog
  schedule: ScheduleLog
  /** Makes unique message ids. Throws CodedError `unavailable` while this process has no node number. */
  ids: IdSource
  room: Room
}

/** Of one message. The appends of other messages come in between, so that a small message does not wait for a large one. */
const APPENDS_AT_ONCE = 256

export function createAccept(options: AcceptOptions): AcceptMessage {
  const messages = new SplitLog(options.broker, messagesStream, options.split)
  const broadcast = new BroadcastLog(options.broker)
  const keys = new IdempotencyKeys(options.broker, options.split)
  const { events, schedule } = options
  const positionIds = new PositionIds(keys, options)
  const appender = new MessageAppender(messages, broadcast, events)

  /**
   * The same key or stream position gives the same ids. `repeated`: some of the records may be stored already.
   */
  async function identify(
    command: AcceptCommand,
    own: KeyRecord | null,
  ): Promise<{ record: KeyRecord; repeated: boolean }> {
    const { position } = command
    if (position) return { record: await positionIds.recordOf(position, command), repeated: position.isRepeat }
    const mine = own ?? newIds(command, options)
    if (command.idempotency === undefined) return { record: mine, repeated: false }
    const { first, record } = await keys.claim(command.project, command.idempotency.key, mine)
    if (isOfAnother(record, mine)) throw new CodedError('idempotency_conflict')
    return { record, repeated: !first }
  }

  async function storeTargets(
    command: AcceptCommand,
    record: KeyRecord,
    stored: NamedMessage[],
    repeated: boolean,
  ): Promise<void> {
    if (command.type === 'devices') {
      // Before the messages, so that the id of any of them leads to the others.
      const targets = stored.map(({ id, registrationId }) => ({ id, registrationId }))
      const atMs = beginsAtMs(command, record)
      await events.targets(record.id, { project: command.project, atMs, expiresAtMs: atMs + command.ttlMs, targets })
    }
    const notBeforeMs = laterMs(command, record)
    if (notBeforeMs === null) {
      await mapAtOnce(stored, APPENDS_AT_ONCE, ({ message }) =>
        repeated ? appender.appendOnce(message) : store(message),
      )
    } else if (!(repeated && (await events.readScheduled(record.id)) !== null)) {
      await storeLater(
        record,
        notBeforeMs,
        command,
        stored.map(({ message }) => ({ kind: 'unicast', message })),
      )
    }
  }

  async function store(message: StoredMessage): Promise<void> {
    const log = messages.ofDevice(message.device)
    await log.append(messageSubject(message.device, message.id), encodeStoredMessage(message), {
      messageId: message.id.toString(),
    })
  }

  /** Adds entries to SCHEDULE. The schedule step also finds them if they are due before this is complete. */
  async function storeLater(record: KeyRecord, notBeforeMs: number, command: AcceptCommand, all: Scheduled[]) {
    const { id, acceptedAtMs: atMs } = record
    const bucket = schedule.bucketFor(notBeforeMs, Math.max(atMs, options.clock.now()))
    await mapAtOnce(all, APPENDS_AT_ONCE, (entry) => schedule.add(bucket, entry))
    const { project, type, ttlMs } = command
    await events.scheduled(id, { project, type, atMs, notBeforeMs, expiresAtMs: notBeforeMs + ttlMs, bucket })
  }

  async function storeGroup(
    command: AcceptCommand,
    record: KeyRecord,
    message: BroadcastRecord,
    repeated: boolean,
  ): Promise<void> {
    const { id } = record
    const notBeforeMs = laterMs(command, record)
    if (notBeforeMs !== null) {
      if (repeated && (await events.readScheduled(id)) !== null) return
      await storeLater(record, notBeforeMs, command, [{ kind: 'group', record: message }])
    } else if (repeated) await appender.appendGroupOnce(message)
    else await appender.appendGroup(message)
  }

  return async (command: AcceptCommand): Promise<Accepted> => {
    let booking: Booking | null = null
    try {
      // First what the store decides nothing about: a message that is too large is refused as such, full or not.
      const mine = command.position ? null : newIds(command, options)
      const made = mine && messagesOf(command, mine)
      // Before the key is claimed: a refused message must take no room.
      booking = await options.room.book(command)
      const { record, repeated } = await identify(command, mine)
      const messages = made !== null && record === mine ? made : messagesOf(command, record)
      if (messages.group) await storeGroup(command, record, messages.group, repeated)
      else await storeTargets(command, record, messages.targets, repeated)
      const { id, acceptedAtMs } = record
      const expiresAtMs = beginsAtMs(command, record) + command.ttlMs
      return { id, acceptedAtMs, expiresAtMs, notBeforeMs: laterMs(command, record) }
    } catch (error) {
      throw refusalOf(error)
    } finally {
      booking?.end()
    }
  }
}

/** True if the key stands for another message. Without a comparable fingerprint, only the number of targets is compared. */
function isOfAnother({ fingerprint, targets }: KeyRecord, mine: KeyRecord): boolean {
  return fingerprint === null ? targets.length !== mine.targets.length : fingerprint !== mine.fingerprint
}

function newIds(command: AcceptCommand, { ids, clock }: AcceptOptions): KeyRecord {
  const targets = command.targets.map((target) => ids.next(partitionOf(target.device)))
  const routing = command.group ? `${command.project}.${command.group.name}` : (command.targets[0]?.device ?? '')
  const own = command.type === 'device' ? targets[0] : ids.next(partitionOf(routing))
  if (own === undefined) throw new CodedError('internal', 'a message without a target')
  return {
    id: own,
    acceptedAtMs: command.acceptedAtMs ?? clock.now(),
    fingerprint: command.idempotency?.fingerprint ?? '',
    targets,
    targetNames: command.idempotency === undefined ? [] : command.targets.map(nameOf),
  }
}

/** When a scheduled message goes out; null if it goes out at once. From the record, so that all repeats agree. */
function laterMs({ notBeforeMs }: AcceptCommand, { acceptedAtMs }: KeyRecord): number | null {
  return notBeforeMs !== null && notBeforeMs > acceptedAtMs ? notBeforeMs : null
}

/** When the ttl of a message starts. */
const beginsAtMs = (command: AcceptCommand, record: KeyRecord) => laterMs(command, record) ?? record.acceptedAtMs

const nameOf = ({ device, registration }: AcceptTarget) => `${device}/${registration}`

interface NamedMessage {
  id: bigint
  registrationId: string
  message: StoredMessage
}

/**
 * The messages of a command, with the ids of its record. Some targets may have been revoked between the first command and
 * a repeat; the other targets keep their ids.
 */
function storedMessages(command: AcceptCommand, record: KeyRecord): NamedMessage[] {
  const acceptedAtMs = beginsAtMs(command, record)
  const expiresAtMs = acceptedAtMs + command.ttlMs
  const content = contentOf(command, expiresAtMs)
  const ids = new Map(record.targetNames.map((name, index) => [name, record.targets[index]]))
  return command.targets.flatMap((target, index) => {
    const id = ids.size > 0 ? ids.get(nameOf(target)) : record.targets[index]
    if (id === undefined) return []
    const { application, device, registration, registrationId } = target
    const message: StoredMessage = {
      id,
      parent: record.id,
      project: command.project,
      application,
      device,
      registration,
      acceptedAtMs,
      expiresAtMs,
      collapseKey: command.collapseKey,
      frame: encodeNotify({ ...content, id, registration }),
    }
    return [{ id, registrationId, message }]
  })
}

/** Throws EncodeError if the message is too large. */
function messagesOf(
  command: AcceptCommand,
  record: KeyRecord,
): { group: BroadcastRecord | null; targets: NamedMessage[] } {
  if (command.group) return { group: groupMessage(command, record), targets: [] }
  return { group: null, targets: storedMessages(command, record) }
}

function groupMessage(command: AcceptCommand, record: KeyRecord): BroadcastRecord {
  const { group, project, collapseKey } = command
  if (group === null) throw new CodedError('internal', 'a group message without a group')
  const { id } = record
  const acceptedAtMs = beginsAtMs(command, record)
  const expiresAtMs = acceptedAtMs + command.ttlMs
  const body = encodeNotifyGroupBody({ ...contentOf(command, expiresAtMs), id, project, target: group })
  return { id, project, ...group, acceptedAtMs, expiresAtMs, collapseKey, body }
}

function contentOf(command: AcceptCommand, expiresAtMs: number) {
  const { priority, collapseKey, title, message, data } = command
  // Rounded up, because a device must not treat a message as expired before the core does.
  const expiresAtSeconds = command.ttlMs === 0 ? 0 : Math.ceil(expiresAtMs / 1000)
  return { expiresAtSeconds, priority, collapseKey, title, message, data }
}

function refusalOf(error: unknown): unknown {
  if (error instanceof BrokerError) {
    return new CodedError(error.code === 'full' ? 'storage_full' : 'unavailable', undefined, {}, { cause: error })
  }
  if (error instanceof EncodeError && error.code === 'frame_too_large') {
    return new CodedError('payload_too_large', undefined, {}, { cause: error })
  }
  return error
}
