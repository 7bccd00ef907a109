/** The records that the driver of a fault run logs, and the evidence that the oracle judges. */
import { createHash } from 'node:crypto'

/** The kind of a push. `ingress` is published on NATS, twice under one key, as a careful publisher may do. */
export type AttemptKind = 'device' | 'devices' | 'topic' | 'application' | 'ingress'

/** An attempt to send a push; logged before the request is sent. */
export interface Begun {
  type: 'begun'
  at: number
  attempt: number
  kind: AttemptKind
  project: string
  /** The numbers of the devices that must get it: its targets, or the members of the group. */
  devices: number[]
  ttlMs: number
  /** It has a collapse key, so that it replaces older pushes of the device. */
  collapses: boolean
  /** Hash of its title and text. */
  hash: string
  /** A producer sends one push to its device after the other; null if no order is expected. */
  producer: string | null
}

/**
 * The answer to an attempt. `accepted`: a 2xx with an id, or for `ingress` the confirmation of the store. `rejected`: a
 * 4xx. `indeterminate`: any other result; the push may arrive once or not at all.
 */
export interface Answered {
  type: 'answered'
  at: number
  attempt: number
  answer: 'accepted' | 'rejected' | 'indeterminate'
  /** The decimal id of a push that was accepted over HTTP. */
  id?: string
  detail?: string
}

/** A cancel; logged before the DELETE is sent. The oracle does not depend on its answer. */
export interface Cancelled {
  type: 'cancelled'
  at: number
  attempt: number
}

export type AttemptRecord = Begun | Answered | Cancelled

/** A push that arrived on a device's socket. */
export interface WireRecord {
  at: number
  device: number
  id: string
  group: boolean
}

/** A notification or a GAP that a device handed to its app. */
export type AppRecord =
  | {
      type: 'shown' | 'expired'
      at: number
      device: number
      id: string
      attempt: number
      application: string
      hash: string
      possibleDuplicate: boolean
    }
  | { type: 'gap'; at: number; device: number; count: number; reason: string }

/** Logged when a device has caught up (`isHere`), and when its connection ends. */
export interface PresenceRecord {
  at: number
  device: number
  isHere: boolean
}

export interface Member {
  project: string
  application: string
}

/** The span in which a fault and its consequences may have affected messages. */
export interface Window {
  fromMs: number
  untilMs: number
}

/** The final event of a target, read from EVENTS. */
export interface FinalEvent {
  device: number
  /** The id of the message, as its sender knows it. */
  parent: string
  kind: string
  /** The time at which nats-server stored it. No fault changes the clock of nats-server. */
  at: number
}

/** The state of the API and of the store after the load has ended. */
export interface Afterwards {
  /** The time of these readings. */
  at: number
  /**
   * The counts of targets by state, for each accepted attempt that is missing at an app; null if the API does not know
   * the message.
   */
  counts: Map<number, Record<string, number> | null>
  /** The counters of each project. */
  totals: Map<string, Record<string, number>>
  finalEvents: FinalEvent[]
}

export interface Evidence {
  attempts: AttemptRecord[]
  wire: WireRecord[]
  app: AppRecord[]
  /** Indexed by the number of the device. */
  members: Member[]
  windows: Window[]
  /** The windows in which a fault may have ended a process or a connection. */
  breaks: Window[]
  presence: PresenceRecord[]
  /** True if the API may not know ended pushes any more, because their events left the store. */
  mayForget: boolean
  afterwards: Afterwards
}

export const hashOf = (title: string, message: string): string =>
  createHash('sha256').update(`${title}\0${message}`).digest('base64url').slice(0, 22)

export const logFiles = {
  attempts: 'attempts.jsonl',
  wire: 'wire.jsonl',
  app: 'app.jsonl',
  presence: 'presence.jsonl',
} as const
