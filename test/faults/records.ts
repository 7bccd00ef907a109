/** What the driver writes down, and what the oracle reads: nothing else counts as evidence. */
import { createHash } from 'node:crypto'

/** How a push was sent; `ingress` goes to NATS, as publishers inside a company do, under a key and more than once. */
export type AttemptKind = 'device' | 'devices' | 'topic' | 'application' | 'ingress'

/** Written before the request leaves. */
export interface Begun {
  what: 'begun'
  at: number
  attempt: number
  kind: AttemptKind
  project: string
  /** Devices that have to get it: targets, or the group's members. */
  devices: number[]
  ttlMs: number
  /** Replaces older ones of its device. */
  collapses: boolean
  /** Of what the app is to see. */
  hash: string
  /** Those of one producer to one device are sent one after the other; null: no order is expected. */
  producer: string | null
}

/**
 * `accepted`: a 2xx whose id was read (ingress: the store's confirmation). `rejected`: a 4xx. `indeterminate`: anything
 * else; it may arrive or not, but not twice.
 */
export interface Answered {
  what: 'answered'
  at: number
  attempt: number
  answer: 'accepted' | 'rejected' | 'indeterminate'
  /** Decimal; of accepted ones over HTTP. */
  id?: string
  detail?: string
}

/** Written before the DELETE leaves; how that is answered decides nothing. */
export interface Cancelled {
  what: 'cancelled'
  at: number
  attempt: number
}

export type AttemptRecord = Begun | Answered | Cancelled

/** A push that came in on a device's socket. */
export interface WireRecord {
  at: number
  device: number
  id: string
  group: boolean
}

/** What a device's app was told. `again`: marked as a possible duplicate. */
export type AppRecord =
  | {
      what: 'given' | 'expired'
      at: number
      device: number
      id: string
      attempt: number
      application: string
      hash: string
      again: boolean
    }
  | { what: 'gap'; at: number; device: number; count: number; reason: string }

export interface Member {
  project: string
  application: string
}

/** From when to when a fault and its traces can have touched messages. */
export interface Window {
  fromMs: number
  untilMs: number
}

/** The end of a target, as EVENTS has it. */
export interface End {
  device: number
  /** Of the message as its sender knows it. */
  parent: string
  kind: string
}

/** What the API and the store say once everything is quiet. */
export interface Afterwards {
  /** When they were asked. */
  at: number
  /** Of accepted attempts whose message is not at an app: targets by state; null: unknown to the API. */
  counts: Map<number, Record<string, number> | null>
  /** By project. */
  totals: Map<string, Record<string, number>>
  ends: End[]
}

export interface Evidence {
  attempts: AttemptRecord[]
  wire: WireRecord[]
  app: AppRecord[]
  /** By number of the device. */
  members: Member[]
  windows: Window[]
  afterwards: Afterwards
}

export const hashOf = (title: string, message: string): string =>
  createHash('sha256').update(`${title}\0${message}`).digest('base64url').slice(0, 22)

export const logFiles = { attempts: 'attempts.jsonl', wire: 'wire.jsonl', app: 'app.jsonl' } as const
