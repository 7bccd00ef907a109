/**
 * EVENTS: the outcome of each target. Each message and kind of event has its own subject, so that the store decides which
 * final event is first: a final event is appended only to an empty subject, and the store refuses a second one.
 */
import { Packr } from 'msgpackr'
import type { StoredMessage } from '../../protocol/envelope.js'
import { partitionOfId, timeOfId } from '../../protocol/message-id.js'
import { type EventSubjectKind, eventSubject, eventsStream, type GroupKind } from '../../protocol/subjects.js'
import { type Broker, BrokerError, isConflict, type LogRecord } from '../nats/broker.js'
import { SplitLog } from './split.js'

export const FINAL_KINDS = ['delivered', 'expired', 'dropped', 'collapsed', 'cancelled', 'failed'] as const
export type FinalKind = (typeof FINAL_KINDS)[number]

/** The router has taken the target. The event holds everything that status and counters need. */
export interface AcceptedEvent {
  parent: bigint
  project: string
  application: string
  device: string
  registration: number
  atMs: number
  expiresAtMs: number
}

/** The end of a target. It includes project and application so that the counters need no look-ups. */
export interface FinalEvent {
  kind: FinalKind
  atMs: number
  project: string
  application: string
  device: string
  /** One word, such as `not_connected`; empty if the kind says everything. */
  reason: string
}

/** A step on the way that decides nothing. `cancelled`: a scheduled group message was withdrawn. */
export interface TraceEvent {
  step: 'queued' | 'late_ack' | 'cancelled'
  atMs: number
  reason: string
}

/** The targets of a `devices` message, under the id of that message. */
export interface TargetsEvent {
  project: string
  atMs: number
  expiresAtMs: number
  targets: { id: bigint; registrationId: string }[]
}

/** A message that goes out later, under the id that its sender knows. Written after the message is in SCHEDULE. */
export interface ScheduledEvent {
  project: string
  type: 'device' | 'devices' | 'topic' | 'application' | 'user'
  atMs: number
  notBeforeMs: number
  expiresAtMs: number
  /** Bucket of SCHEDULE that holds the message and each of its targets. */
  bucket: number
}

/** A group message. There is one event for a group of any size. */
export interface GroupEvent {
  project: string
  kind: GroupKind
  name: string
  atMs: number
  expiresAtMs: number
}

/** How many copies of a group message one worker has sent since its last receipts. */
export interface ReceiptsEvent {
  instance: string
  worker: string
  sent: number
  atMs: number
}

/** `existing` is null if the message had ended and its events have left the store. */
export type FinalOutcome = { won: true } | { won: false; existing: FinalEvent | null }

const VERSION = 1
const packr = new Packr({ useRecords: false, int64AsType: 'bigint' })
const pack = (...fields: unknown[]) => packr.pack([VERSION, ...fields])

function unpack(body: Uint8Array): unknown[] {
  const fields: unknown = packr.unpack(body)
  if (!Array.isArray(fields) || fields[0] !== VERSION) throw new BrokerError('unavailable', 'event of another version')
  return fields
}

/** Most steps that are read for one message. */
const RECORDS_MAX = 1_000

/** Marks a record that was appended again because older records were about to leave. It was counted and published before. */
export const MOVED_HEADERS = { Moved: '1' }
export const isMoved = ({ headers }: LogRecord) => headers?.Moved !== undefined

export class EventLog {
  readonly logs: SplitLog
  private count = 0

  /**
   * @param writer unique to this process and run. It identifies our own append if the answer to it was lost.
   * @param history for how long the events of a message stay at least. Absent: they never leave.
   */
  constructor(
    broker: Broker,
    split: number,
    private readonly writer: string,
    private readonly history?: { now(): number; minMs: number },
  ) {
    this.logs = new SplitLog(broker, eventsStream, split)
  }

  /** Stores the event once for each target. Resolves with false where it was stored before this call. */
  async accepted(m: StoredMessage): Promise<boolean> {
    const body = pack(m.parent, m.project, m.application, m.device, m.registration, m.acceptedAtMs, m.expiresAtMs)
    return this.appendFirst(m.id, 'accepted', body)
  }

  /** The first call for a target decides; later calls learn the decision. On BrokerError the outcome is unknown. */
  async final(id: bigint, e: FinalEvent): Promise<FinalOutcome> {
    const own = `${this.writer}.${++this.count}`
    const body = pack(e.kind, e.atMs, e.project, e.application, e.device, e.reason, own)
    if (await this.appendFirst(id, 'final', body)) return { won: true }
    const record = await this.last(id, 'final')
    if (record === null) throw new BrokerError('unavailable', `the final event of ${id} cannot be read`)
    // The answer to an earlier attempt was lost after the store had taken it, so the store refused this one.
    return record[7] === own ? { won: true } : { won: false, existing: finalOf(record) }
  }

  /**
   * As final(), for a message that may have been queued long ago. If neither of its events is there, it had ended and its
   * events have left the store: another final event would be counted a second time.
   */
  async finalOfQueued(id: bigint, e: FinalEvent): Promise<FinalOutcome> {
    if (await this.hasLeft(id)) return { won: false, existing: null }
    return this.final(id, e)
  }

  /** True if a queued message has ended and its events have left the store. A queued message has an `accepted` event. */
  async hasLeft(id: bigint): Promise<boolean> {
    const { history } = this
    if (!history || timeOfId(id) > history.now() - history.minMs) return false
    if ((await this.acceptedRecord(id)) !== null) return false
    return (await this.finalRecord(id)) === null
  }

  acceptedRecord(id: bigint): Promise<LogRecord | null> {
    return this.record(id, 'accepted')
  }

  finalRecord(id: bigint): Promise<LogRecord | null> {
    return this.record(id, 'final')
  }

  async readFinal(id: bigint): Promise<FinalEvent | null> {
    const record = await this.last(id, 'final')
    return record === null ? null : finalOf(record)
  }

  async readAccepted(id: bigint): Promise<AcceptedEvent | null> {
    const record = await this.acceptedRecord(id)
    return record && decodeAccepted(record.body)
  }

  async trace(id: bigint, e: TraceEvent): Promise<void> {
    await this.append(id, 'trace', pack(e.step, e.atMs, e.reason))
  }

  async readTrace(id: bigint): Promise<TraceEvent[]> {
    const records = await this.all(id, 'trace')
    return records.map((f) => ({ step: f[1] as TraceEvent['step'], atMs: f[2] as number, reason: f[3] as string }))
  }

  /** Written once. A repeat with the same idempotency key finds the event. */
  async targets(parent: bigint, e: TargetsEvent): Promise<void> {
    const flat = e.targets.flatMap((target) => [target.id, target.registrationId])
    await this.appendFirst(parent, 'targets', pack(e.project, e.atMs, e.expiresAtMs, ...flat))
  }

  async readTargets(parent: bigint): Promise<TargetsEvent | null> {
    const record = await this.record(parent, 'targets')
    return record && decodeTargets(record.body)
  }

  async scheduled(id: bigint, e: ScheduledEvent): Promise<void> {
    await this.appendFirst(id, 'scheduled', pack(e.project, e.type, e.atMs, e.notBeforeMs, e.expiresAtMs, e.bucket))
  }

  async readScheduled(id: bigint): Promise<ScheduledEvent | null> {
    const f = await this.last(id, 'scheduled')
    return f && scheduledOf(f)
  }

  async group(id: bigint, e: GroupEvent): Promise<void> {
    await this.appendFirst(id, 'group', pack(e.project, e.kind, e.name, e.atMs, e.expiresAtMs))
  }

  async readGroup(id: bigint): Promise<GroupEvent | null> {
    const f = await this.last(id, 'group')
    if (f === null) return null
    return {
      project: f[1] as string,
      kind: f[2] as GroupKind,
      name: f[3] as string,
      atMs: f[4] as number,
      expiresAtMs: f[5] as number,
    }
  }

  /** What transports before 0.2.0 report. Counts add up, because each record covers the time since the last one. */
  async readReceipts(id: bigint): Promise<ReceiptsEvent[]> {
    const records = await this.all(id, 'receipts')
    return records.map((f) => ({
      instance: f[1] as string,
      worker: f[2] as string,
      sent: f[3] as number,
      atMs: f[4] as number,
    }))
  }

  private append(id: bigint, kind: EventSubjectKind, body: Uint8Array): Promise<number> {
    return this.logs.ofId(id).append(eventSubject(partitionOfId(id), id, kind), body)
  }

  /** Resolves with false if the subject already has an event. */
  private async appendFirst(id: bigint, kind: EventSubjectKind, body: Uint8Array): Promise<boolean> {
    try {
      const subject = eventSubject(partitionOfId(id), id, kind)
      await this.logs.ofId(id).append(subject, body, { expectedLastSubjectSequence: 0 })
      return true
    } catch (error) {
      if (isConflict(error)) return false
      throw error
    }
  }

  private async last(id: bigint, kind: EventSubjectKind): Promise<unknown[] | null> {
    const record = await this.record(id, kind)
    return record === null ? null : unpack(record.body)
  }

  private record(id: bigint, kind: EventSubjectKind): Promise<LogRecord | null> {
    return this.logs.ofId(id).last(eventSubject(partitionOfId(id), id, kind), { authoritative: true })
  }

  private async all(id: bigint, kind: EventSubjectKind): Promise<unknown[][]> {
    const log = this.logs.ofId(id)
    const subject = eventSubject(partitionOfId(id), id, kind)
    const newest = await log.last(subject)
    const records: unknown[][] = []
    for (let from = 1; newest && from <= newest.sequence && records.length < RECORDS_MAX; ) {
      const record = await log.next(subject, from)
      if (record === null) break
      records.push(unpack(record.body))
      from = record.sequence + 1
    }
    return records
  }
}

/** The fields of an event that the fold over EVENTS reads. */
export interface FoldedEvent {
  project: string
  /** A unicast target was accepted or ended. */
  counted?: { application: string; outcome: 'accepted' | FinalKind }
  /** A message was accepted, under the id that its sender knows. */
  message?: { id: bigint; type: 'device' | 'devices' | 'topic' | 'application' | 'user' }
}

/** Null if the fold does not use this kind of event. */
export function decodeFolded(kind: string, id: bigint, body: Uint8Array): FoldedEvent | null {
  if (kind === 'accepted') {
    const f = unpack(body)
    const parent = f[1] as bigint
    return {
      project: f[2] as string,
      counted: { application: f[3] as string, outcome: 'accepted' },
      message: { id: parent, type: parent === id ? 'device' : 'devices' },
    }
  }
  if (kind === 'final') {
    const { project, application, kind: what } = finalOf(unpack(body))
    return { project, counted: { application, outcome: what } }
  }
  if (kind === 'scheduled') {
    const { project, type } = scheduledOf(unpack(body))
    return { project, message: { id, type } }
  }
  if (kind === 'group') {
    const f = unpack(body)
    const group = f[2] as GroupKind
    return { project: f[1] as string, message: { id, type: group === 'app' ? 'application' : group } }
  }
  return null
}

export function decodeAccepted(body: Uint8Array): AcceptedEvent {
  const f = unpack(body)
  return {
    parent: f[1] as bigint,
    project: f[2] as string,
    application: f[3] as string,
    device: f[4] as string,
    registration: f[5] as number,
    atMs: f[6] as number,
    expiresAtMs: f[7] as number,
  }
}

export function decodeTargets(body: Uint8Array): TargetsEvent {
  const f = unpack(body)
  const targets: TargetsEvent['targets'] = []
  for (let i = 4; i + 1 < f.length; i += 2) targets.push({ id: f[i] as bigint, registrationId: f[i + 1] as string })
  return { project: f[1] as string, atMs: f[2] as number, expiresAtMs: f[3] as number, targets }
}

/** Decodes the record of a final event. */
export function decodeFinal(body: Uint8Array): FinalEvent {
  return finalOf(unpack(body))
}

function scheduledOf(f: unknown[]): ScheduledEvent {
  return {
    project: f[1] as string,
    type: f[2] as ScheduledEvent['type'],
    atMs: f[3] as number,
    notBeforeMs: f[4] as number,
    expiresAtMs: f[5] as number,
    bucket: f[6] as number,
  }
}

function finalOf(f: unknown[]): FinalEvent {
  return {
    kind: f[1] as FinalKind,
    atMs: f[2] as number,
    project: f[3] as string,
    application: f[4] as string,
    device: f[5] as string,
    reason: f[6] as string,
  }
}
