/**
 * What the public context needs of the delivery core. src/core/steps implements these; tests put their own in place.
 *
 * Each rejects with BrokerError or CodedError where it could not do its work; then nothing was promised.
 */
import type { GroupKind } from '../../../protocol/subjects.js'
import type { ListedStatusWord, MessageStatusWord, TraceStepWord, WaitingReason } from './statuses.js'

export type MessageType = 'device' | 'devices' | 'topic' | 'application' | 'user'
export type MessagePriority = 'normal' | 'high' | 'low'

/** One registration that a unicast message goes to. */
export interface AcceptTarget {
  application: string
  device: string
  /** Number of the registration on the device. */
  registration: number
  /** The registrationId as the sender gave it. */
  registrationId: string
}

/** A validated and resolved message: every field is inside its limits, every target is one of the project. */
export interface AcceptCommand {
  project: string
  type: MessageType
  /** One for `device`, 1 to 1,000 for `devices`, none for groups. */
  targets: AcceptTarget[]
  /** What a group message goes to; null for `device` and `devices`. */
  group: { kind: GroupKind; name: string } | null
  /** 0: only for devices that are connected now. */
  ttlMs: number
  /** Unix milliseconds before which it does not go out; null, or not after acceptance: at once. ttl counts from then. */
  notBeforeMs: number | null
  priority: MessagePriority
  /** Empty: none. */
  collapseKey: string
  title: string
  message: string
  /** msgpack map of custom attributes; empty: none. */
  data: Uint8Array
  /**
   * Two commands of one project with the same key are one message, as long as events are kept: the second resolves with
   * the first one's id. The fingerprint is a digest of what was asked for: with the same key and another one a command is
   * refused (`idempotency_conflict`).
   */
  idempotency?: { key: string; fingerprint: string }
  /** When the message counts as accepted, from which its ttl counts: the PubAck of a NATS publisher. Absent: now. */
  acceptedAtMs?: number
  /** Instead of a key: where the command stands in a stream. Only for type `device`, and what goes out at once. */
  position?: StreamPosition
}

/** A record of a stream that may be delivered again. The same place is the same message, and has the same id. */
export interface StreamPosition {
  /** Of the stream: one that was made anew counts from 1 again. */
  incarnation: number
  sequence: number
  /** When the stream took it: then the message counts as accepted. */
  storedAtMs: number
  /** It may have been accepted before. False only where it was not. */
  isRepeat: boolean
}

export interface Accepted {
  /** The id under which the sender knows the message: the parent's for `devices`. */
  id: bigint
  acceptedAtMs: number
  expiresAtMs: number
  /** When it goes out, where that is later. */
  notBeforeMs: number | null
}

/** Resolves once every target is stored. */
export type AcceptMessage = (command: AcceptCommand) => Promise<Accepted>

export interface TraceEntry {
  atMs: number
  /** What happened: `accepted`, `queued`, `delivered`, ... */
  step: TraceStepWord
  /** Why, where that is known. */
  reason?: string
  /** The registrationId or device it is about, where the message has several. */
  target?: string
}

/** A target that has not ended, and what it waits for. */
export interface WaitingTarget {
  /** As the sender gave it. */
  target: string
  /**
   * `scheduled`: its time has not come. `routing`: route has not seen it. `offline`: its device is not connected. `not_acknowledged`: sent, without a word from
   * the device. `window_full`: the device has as much as it takes at once.
   */
  why: WaitingReason
  /** Since when, where that is known. */
  sinceMs?: number
}

export interface MessageStatus {
  id: bigint
  /** The context shows a message only to its own project. */
  project: string
  status: MessageStatusWord
  type: MessageType
  /** As the sender gave it. */
  target: string | string[]
  acceptedAtMs: number
  expiresAtMs: number
  /** Of a message that was to go out later. */
  notBeforeMs: number | null
  /** Targets by state: accepted, pending, delivered, expired, dropped, collapsed, cancelled, failed; receipts of groups. */
  counts: Record<string, number>
  trace: TraceEntry[]
  /** The first of those that have not ended. */
  waiting: WaitingTarget[]
}

/** Null where there is no such message (any more). */
export type ReadStatus = (id: bigint) => Promise<MessageStatus | null>

/** `unknown`: no such message of this project. `already_final`: nothing was left to cancel. */
export type CancelMessage = (project: string, id: bigint) => Promise<'cancelled' | 'already_final' | 'unknown'>

export interface ListedMessage {
  /** The id under which the sender knows it. */
  id: bigint
  type: MessageType
  acceptedAtMs: number
  /** Of a message with one target: `pending`, or how it ended. */
  status?: ListedStatusWord
}

/** The newest messages of a project, at most `limit`, older than `before` where that is given; as old as the counters. */
export type ListMessages = (project: string, page: { before: bigint | null; limit: number }) => Promise<ListedMessage[]>

export interface CounterRow {
  application: string
  /** UTC day, `2025-01-31`. */
  day: string
  /** Unicast targets by state; accepted = delivered + pending + expired + dropped + collapsed + cancelled + failed. */
  counts: Record<string, number>
}

export type ReadCounters = (project: string) => Promise<CounterRow[]>
