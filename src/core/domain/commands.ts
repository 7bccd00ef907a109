/**
 * The operations on messages, as the APIs and the ingress call them. src/core/delivery implements them.
 *
 * Each rejects with BrokerError or CodedError if it fails. The caller must then promise nothing to the sender.
 */
import type { GroupKind } from '../../../protocol/subjects.js'
import type { ListedStatusWord, MessageStatusWord, TraceStepWord, WaitingReason } from './statuses.js'

export type MessageType = 'device' | 'devices' | 'topic' | 'application' | 'user'
export type MessagePriority = 'normal' | 'high' | 'low'

/** A registration that a message addresses. */
export interface AcceptTarget {
  application: string
  device: string
  /** Number of the registration on the device. */
  registration: number
  /** The registrationId as the sender gave it. */
  registrationId: string
}

/** A validated message: all fields are within their limits, and all targets belong to the project. */
export interface AcceptCommand {
  project: string
  type: MessageType
  /** One for `device`, 1 to 1,000 for `devices`, none for groups. */
  targets: AcceptTarget[]
  /** The addressed group; null for `device` and `devices`. */
  group: { kind: GroupKind; name: string } | null
  /** 0: the message is only for devices that are connected now. */
  ttlMs: number
  /** Unix milliseconds at which a scheduled message is sent, and its ttl begins. Null or past: it is sent at once. */
  notBeforeMs: number | null
  priority: MessagePriority
  /** Empty: the message has no collapse key. */
  collapseKey: string
  title: string
  message: string
  /** msgpack map of custom attributes; empty: the message has none. */
  data: Uint8Array
  /**
   * Two commands of one project with the same key are the same message, as long as EVENTS keeps its records: the second one
   * resolves with the id of the first. The fingerprint is a digest of the request. A command with the same key and another
   * fingerprint is refused (`idempotency_conflict`).
   */
  idempotency?: { key: string; fingerprint: string }
  /** The time of acceptance, from which the ttl counts: the PubAck of a NATS publisher. Absent: now. */
  acceptedAtMs?: number
  /** The position of the command in a stream, instead of a key. Only for an immediate message of type `device`. */
  position?: StreamPosition
}

/** The position of a record that a stream may deliver again. Equal positions give the same message id. */
export interface StreamPosition {
  /** Identifies this creation of the stream: a stream that is created again counts from 1 again. */
  incarnation: number
  sequence: number
  /** The time at which the stream stored the record, and the message counts as accepted. */
  storedAtMs: number
  /** True: the record may have been accepted before. */
  isRepeat: boolean
}

export interface Accepted {
  /** The message id that the sender gets. For `devices` this is the parent's id. */
  id: bigint
  acceptedAtMs: number
  expiresAtMs: number
  /** The time at which a scheduled message is sent; null: it was sent at once. */
  notBeforeMs: number | null
}

/** Resolves when all targets are stored. */
export type AcceptMessage = (command: AcceptCommand) => Promise<Accepted>

export interface TraceEntry {
  atMs: number
  step: TraceStepWord
  reason?: string
  /** The registrationId of the target, if the message has several targets. */
  target?: string
}

/** A target that has not ended, with the reason. */
export interface WaitingTarget {
  /** The registrationId as the sender gave it. */
  target: string
  /**
   * - `scheduled`: the time of the message has not come.
   * - `routing`: no router has finished with it yet.
   * - `offline`: its device is not connected.
   * - `not_acknowledged`: the device is connected and has not acknowledged it.
   * - `window_full`: the device has as many unacknowledged messages as its window allows.
   */
  why: WaitingReason
  /** Begin of this state, if it is known. */
  sinceMs?: number
}

export interface MessageStatus {
  id: bigint
  /** The caller shows a message only to its own project. */
  project: string
  status: MessageStatusWord
  type: MessageType
  /** As the sender gave it. */
  target: string | string[]
  acceptedAtMs: number
  expiresAtMs: number
  /** Null: the message was not scheduled. */
  notBeforeMs: number | null
  /** Targets by state: accepted, pending, delivered, expired, dropped, collapsed, cancelled, failed. For a group: `sent`. */
  counts: Record<string, number>
  trace: TraceEntry[]
  /** The first targets that have not ended. */
  waiting: WaitingTarget[]
}

/** Null: there is no such message, or its events have been removed. */
export type ReadStatus = (id: bigint) => Promise<MessageStatus | null>

/** `unknown`: the project has no such message. `already_final`: all targets have ended. */
export type CancelMessage = (project: string, id: bigint) => Promise<'cancelled' | 'already_final' | 'unknown'>

export interface ListedMessage {
  /** The message id that the sender got. */
  id: bigint
  type: MessageType
  acceptedAtMs: number
  /** Only for a message of type `device`. */
  status?: ListedStatusWord
}

/** Resolves with the newest messages of a project that are older than `before`, as of the last checkpoint of the counters. */
export type ListMessages = (project: string, page: { before: bigint | null; limit: number }) => Promise<ListedMessage[]>

export interface CounterRow {
  application: string
  /** UTC day, `2025-01-31`. */
  day: string
  /** Unicast targets by state; accepted = delivered + pending + expired + dropped + collapsed + cancelled + failed. */
  counts: Record<string, number>
}

export type ReadCounters = (project: string) => Promise<CounterRow[]>
