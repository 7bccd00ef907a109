/**
 * The messages between core and transport over NATS, and the stream records that both read: shapes and codec.
 *
 * The form is msgpack arrays that begin with a version (`useRecords: false`, so that any language can read them).
 * 64-bit ids are bigint on both sides. A reader refuses a version that it does not know; new fields are added at the
 * end.
 */
import { Packr } from 'msgpackr'
import type { GroupKind } from './subjects.js'

export const ENVELOPE_VERSION = 1

const packr = new Packr({ useRecords: false, int64AsType: 'bigint' })

export class EnvelopeError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'EnvelopeError'
  }
}

function pack(fields: unknown[]): Uint8Array {
  return packr.pack([ENVELOPE_VERSION, ...fields])
}

function unpack(bytes: Uint8Array, shape: string): unknown[] {
  let value: unknown
  try {
    value = packr.unpack(bytes)
  } catch {
    throw new EnvelopeError(`${shape}: the bytes are not msgpack`)
  }
  if (!Array.isArray(value)) throw new EnvelopeError(`${shape}: the value is not an array`)
  if (value[0] !== ENVELOPE_VERSION) throw new EnvelopeError(`${shape}: version ${String(value[0])} is unknown`)
  return value
}

// ---- the message itself -----------------------------------------------------------------------

/** One target of one accepted message, as MESSAGES and the queue store it. */
export interface StoredMessage {
  /** The id of this target, which is also the id of its NOTIFY frame. */
  id: bigint
  /** The id that the sender knows: the same as `id` for type `device`, the id of the whole message for `devices`. */
  parent: bigint
  project: string
  application: string
  device: string
  /** The number of the registration on the device. */
  registration: number
  acceptedAtMs: number
  /** Unix milliseconds; equal to acceptedAtMs if the message is only for a connected device (ttl 0s). */
  expiresAtMs: number
  /** Empty: none. A key is valid within one registration. */
  collapseKey: string
  /** The whole NOTIFY frame (length, type, body). Accept encodes it once. */
  frame: Uint8Array
}

export function encodeStoredMessage(m: StoredMessage): Uint8Array {
  return pack([
    m.id,
    m.parent,
    m.project,
    m.application,
    m.device,
    m.registration,
    m.acceptedAtMs,
    m.expiresAtMs,
    m.collapseKey,
    m.frame,
  ])
}

export function decodeStoredMessage(bytes: Uint8Array): StoredMessage {
  const f = unpack(bytes, 'stored message')
  return {
    id: f[1] as bigint,
    parent: f[2] as bigint,
    project: f[3] as string,
    application: f[4] as string,
    device: f[5] as string,
    registration: f[6] as number,
    acceptedAtMs: f[7] as number,
    expiresAtMs: f[8] as number,
    collapseKey: f[9] as string,
    frame: f[10] as Uint8Array,
  }
}

// ---- queued records ---------------------------------------------------------------------------

/** One record of a device's offline queue (stream QUEUE). Readers walk backwards by `previous`, or by `older`. */
export interface QueueRecord {
  /** The stream sequence of the record before this one in the queue; 0: no older message waits. */
  previous: number
  /** An upper bound of the number of records in the queue, with this one. Deletions lower it at the next walk only. */
  depth: number
  /** The id of the queue, from its first record until it is empty: the id of the first message in it. */
  queue: bigint
  /** The number of messages that this queue has dropped so far. A message counts if its final event says `dropped`. */
  dropped: number
  /** The ids that this record ended (dropped or collapsed). Their records may not be deleted yet. */
  evicted: bigint[]
  queuedAtMs: number
  message: StoredMessage
  /**
   * The sequences of all older messages that still wait, oldest first; empty: follow `previous`. Written when a record
   * was taken out of the middle, so that a walk never depends on a deleted record.
   */
  older: number[]
}

export function encodeQueueRecord(r: QueueRecord): Uint8Array {
  const message = encodeStoredMessage(r.message)
  return pack([r.previous, r.depth, r.queue, r.dropped, r.evicted, r.queuedAtMs, message, r.older])
}

export function decodeQueueRecord(bytes: Uint8Array): QueueRecord {
  const f = unpack(bytes, 'queued record')
  return {
    previous: f[1] as number,
    depth: f[2] as number,
    queue: f[3] as bigint,
    dropped: f[4] as number,
    evicted: f[5] as bigint[],
    queuedAtMs: f[6] as number,
    message: decodeStoredMessage(f[7] as Uint8Array),
    older: (f[8] as number[] | undefined) ?? [],
  }
}

// ---- group messages ---------------------------------------------------------------------------

/** One group message in BROADCAST. */
export interface BroadcastRecord {
  id: bigint
  project: string
  kind: GroupKind
  /** The applicationId, topic or user, as the sender gave it. */
  name: string
  acceptedAtMs: number
  expiresAtMs: number
  /** Empty: none. */
  collapseKey: string
  /** The body of the NOTIFY_GROUP frame without `sequence`. The worker appends that field, which only the log knows. */
  body: Uint8Array
}

export function encodeBroadcastRecord(r: BroadcastRecord): Uint8Array {
  return pack([r.id, r.project, r.kind, r.name, r.acceptedAtMs, r.expiresAtMs, r.collapseKey, r.body])
}

export function decodeBroadcastRecord(bytes: Uint8Array): BroadcastRecord {
  const f = unpack(bytes, 'broadcast record')
  return {
    id: f[1] as bigint,
    project: f[2] as string,
    kind: f[3] as GroupKind,
    name: f[4] as string,
    acceptedAtMs: f[5] as number,
    expiresAtMs: f[6] as number,
    collapseKey: f[7] as string,
    body: f[8] as Uint8Array,
  }
}

// ---- router to worker and back ----------------------------------------------------------------

/** One frame for one device. */
export interface TxItem {
  id: bigint
  device: string
  /** By the router's clock, in Unix milliseconds. */
  expiresAtMs: number
  /** The whole NOTIFY frame; the worker forwards it without decoding it. */
  frame: Uint8Array
}

export interface TxBatch {
  /** The router that gets the reports, on rx.<router>. */
  router: string
  /**
   * When the batch leaves, by the router's clock in Unix milliseconds: an item has `expiresAtMs - atMs` left of its life,
   * which the worker counts down without a look at its own clock. Null: the router is of a version that does not say it.
   */
  atMs: number | null
  items: TxItem[]
}

const TX_HEAD_FIELDS = 2
const TX_ITEM_FIELDS = 4

/**
 * A flat array: [version, router, id, device, expiresAtMs, frame, id, device, ..., atMs]. `atMs` comes last, where readers
 * that do not know it pass over it.
 */
export function encodeTxBatch(batch: TxBatch): Uint8Array {
  const fields: unknown[] = [batch.router]
  for (const item of batch.items) fields.push(item.id, item.device, item.expiresAtMs, item.frame)
  if (batch.atMs !== null) fields.push(batch.atMs)
  return pack(fields)
}

export function decodeTxBatch(bytes: Uint8Array): TxBatch {
  const f = unpack(bytes, 'tx batch')
  const items: TxItem[] = []
  const saysTime = (f.length - TX_HEAD_FIELDS) % TX_ITEM_FIELDS === 1
  for (let i = TX_HEAD_FIELDS; i + TX_ITEM_FIELDS <= f.length; i += TX_ITEM_FIELDS) {
    items.push({
      id: f[i] as bigint,
      device: f[i + 1] as string,
      expiresAtMs: f[i + 2] as number,
      frame: f[i + 3] as Uint8Array,
    })
  }
  return { router: f[1] as string, atMs: saysTime ? (f[f.length - 1] as number) : null, items }
}

/**
 * The result of a worker's attempt to deliver one item, and the router's next step. A report ends the attempt; whether
 * it ends the target, the router decides.
 */
export const Report = {
  /** The device has acknowledged. */
  ACKED: 0,
  /** This worker has no live session of the device: look the device up again, or enqueue. */
  NOT_HERE: 1,
  /** The window of the device is full, or too much waits for the end of its catch-up: enqueue. */
  WINDOW_FULL: 2,
  /** The session ended before an acknowledgement: enqueue. */
  CLOSED: 3,
  /** The message expired before it was sent. */
  EXPIRED: 4,
  /** The registration of the message has ended: the worker knows it from the record of the device. */
  ENDED: 5,
} as const
export type ReportCode = (typeof Report)[keyof typeof Report]

export interface RxItem {
  id: bigint
  device: string
  report: ReportCode
  /** The worker's clock, in Unix milliseconds. */
  atMs: number
}

export interface RxBatch {
  instance: string
  worker: string
  items: RxItem[]
}

export function encodeRxBatch(batch: RxBatch): Uint8Array {
  const fields = newRxFields(batch.instance, batch.worker)
  for (const item of batch.items) addRxItem(fields, item.id, item.device, item.report, item.atMs)
  return encodeRxFields(fields)
}

/** A batch under construction, as flat as it will be written, because a worker adds an item for every delivery. */
export type RxFields = (bigint | string | number)[]

const RX_HEAD_FIELDS = 3
const RX_ITEM_FIELDS = 4

export function newRxFields(instance: string, worker: string): RxFields {
  return [ENVELOPE_VERSION, instance, worker]
}

/** Returns the number of items in the batch. */
export function addRxItem(fields: RxFields, id: bigint, device: string, report: ReportCode, atMs: number): number {
  return (fields.push(id, device, report, atMs) - RX_HEAD_FIELDS) / RX_ITEM_FIELDS
}

export function encodeRxFields(fields: RxFields): Uint8Array {
  return packr.pack(fields)
}

export function decodeRxBatch(bytes: Uint8Array): RxBatch {
  const f = unpack(bytes, 'rx batch')
  const items: RxItem[] = []
  for (let i = 3; i + 3 < f.length; i += 4) {
    items.push({
      id: f[i] as bigint,
      device: f[i + 1] as string,
      report: f[i + 2] as ReportCode,
      atMs: f[i + 3] as number,
    })
  }
  return { instance: f[1] as string, worker: f[2] as string, items }
}

// ---- worker to core: acknowledgements of queued messages --------------------------------------

/** A queued record whose message the device has acknowledged. The worker repeats it until the core confirms it. */
export interface SettleItem {
  id: bigint
  device: string
  project: string
  application: string
  /** The sequence of the record in QUEUE_<i>, which the core deletes. */
  queueSequence: number
  atMs: number
}

export interface SettleRequest {
  instance: string
  worker: string
  items: SettleItem[]
}

export function encodeSettleRequest(r: SettleRequest): Uint8Array {
  const fields: unknown[] = [r.instance, r.worker]
  for (const i of r.items) fields.push(i.id, i.device, i.project, i.application, i.queueSequence, i.atMs)
  return pack(fields)
}

export function decodeSettleRequest(bytes: Uint8Array): SettleRequest {
  const f = unpack(bytes, 'settle request')
  const items: SettleItem[] = []
  for (let i = 3; i + 5 < f.length; i += 6) {
    items.push({
      id: f[i] as bigint,
      device: f[i + 1] as string,
      project: f[i + 2] as string,
      application: f[i + 3] as string,
      queueSequence: f[i + 4] as number,
      atMs: f[i + 5] as number,
    })
  }
  return { instance: f[1] as string, worker: f[2] as string, items }
}

/** Confirms the items, by queueSequence, whose event is written and whose record is deleted. */
export function encodeSettleReply(settled: number[]): Uint8Array {
  return pack(settled)
}

export function decodeSettleReply(bytes: Uint8Array): number[] {
  return unpack(bytes, 'settle reply').slice(1) as number[]
}

// ---- core to worker: control ------------------------------------------------------------------

export type ControlRequest =
  /** Read QUEUE for this device (again). The worker replies once it has noted that, or if it has no such session. */
  | { kind: 'catch_up'; device: string }
  /** The registrations or topics of the device have changed: read its record again. */
  | { kind: 'refresh'; device: string }
  /**
   * Close the session: a later one lives elsewhere, the device is revoked, or the operator has reset its connection
   * numbers (`going_away`).
   */
  | { kind: 'close'; device: string; reason: CloseControlReason; belowConnection: number }

export type CloseControlReason = 'replaced' | 'revoked' | 'going_away'

/** Asks whether the worker has the device, and changes nothing: no session is below connection 0. */
export function presenceQuestion(device: string): ControlRequest {
  return { kind: 'close', device, reason: 'going_away', belowConnection: 0 }
}

export function encodeControlRequest(r: ControlRequest): Uint8Array {
  return r.kind === 'close' ? pack([r.kind, r.device, r.reason, r.belowConnection]) : pack([r.kind, r.device])
}

export function decodeControlRequest(bytes: Uint8Array): ControlRequest {
  const f = unpack(bytes, 'control request')
  const kind = f[1] as ControlRequest['kind']
  const device = f[2] as string
  if (kind === 'close') {
    return { kind, device, reason: f[3] as CloseControlReason, belowConnection: f[4] as number }
  }
  return { kind, device }
}

/**
 * `here`: the device is connected to this worker, or connecting, and the worker will read QUEUE. `not_here`: it is not.
 */
export type ControlReply = 'here' | 'not_here'

export function encodeControlReply(reply: ControlReply): Uint8Array {
  return pack([reply])
}

export function decodeControlReply(bytes: Uint8Array): ControlReply {
  return unpack(bytes, 'control reply')[1] === 'here' ? 'here' : 'not_here'
}

// ---- worker to core: requests of devices ------------------------------------------------------

export type DeviceRequest =
  /** `fleet`: that of the device's token; empty: not known. A worker of a version before 0.2.0 does not send it. */
  | { kind: 'register'; device: string; fleet?: string; application: string; userToken: string }
  | { kind: 'unregister'; device: string; registration: number }
  | { kind: 'subscribe'; device: string; registration: number; topic: string }
  | { kind: 'unsubscribe'; device: string; registration: number; topic: string }

export type DeviceReply =
  /** After `register`, `registrationId` and `project` are those of the registration; else they are empty. */
  | { ok: true; registration: number; registrationId: string; project: string; subscriptions: number }
  | { ok: false; code: string; detail: string; retryAfterMs: number }

export function encodeDeviceRequest(r: DeviceRequest): Uint8Array {
  return packr.pack({ v: ENVELOPE_VERSION, ...r })
}

export function decodeDeviceRequest(bytes: Uint8Array): DeviceRequest {
  return unpackMap(bytes, 'device request') as unknown as DeviceRequest
}

export function encodeDeviceReply(r: DeviceReply): Uint8Array {
  return packr.pack({ v: ENVELOPE_VERSION, ...r })
}

export function decodeDeviceReply(bytes: Uint8Array): DeviceReply {
  return unpackMap(bytes, 'device reply') as unknown as DeviceReply
}

// ---- between cores ----------------------------------------------------------------------------

/** The worker `worker` of `instance` had the device until a moment ago, with a connection number below `belowConnection`. */
export interface MovedNotice {
  device: string
  instance: string
  worker: string
  belowConnection: number
}

export function encodeMovedNotice({ device, instance, worker, belowConnection }: MovedNotice): Uint8Array {
  return pack([device, instance, worker, belowConnection])
}

export function decodeMovedNotice(bytes: Uint8Array): MovedNotice {
  const f = unpack(bytes, 'moved notice')
  return { device: f[1] as string, instance: f[2] as string, worker: f[3] as string, belowConnection: f[4] as number }
}

/** A registration has ended: senders are to be refused. */
export interface EndedNotice {
  device: string
  registration: number
}

export function encodeEndedNotice({ device, registration }: EndedNotice): Uint8Array {
  return pack([device, registration])
}

export function decodeEndedNotice(bytes: Uint8Array): EndedNotice {
  const f = unpack(bytes, 'ended notice')
  return { device: f[1] as string, registration: f[2] as number }
}

function unpackMap(bytes: Uint8Array, shape: string): Record<string, unknown> {
  let value: unknown
  try {
    value = packr.unpack(bytes)
  } catch {
    throw new EnvelopeError(`${shape}: the bytes are not msgpack`)
  }
  if (typeof value !== 'object' || value === null) throw new EnvelopeError(`${shape}: the value is not a map`)
  const map = value as Record<string, unknown>
  if (map.v !== ENVELOPE_VERSION) throw new EnvelopeError(`${shape}: version ${String(map.v)} is unknown`)
  return map
}
