/**
 * Projects, applications and fleets: the tables PROJECTS, APPLICATIONS and FLEETS. JSON, so that an operator can read
 * them with any NATS tool. Small tables, written by administration only.
 */
import type { JsonWebKey } from 'node:crypto'
import { BrokerError, type Table } from '../nats/broker.js'

/** A public key with which the service account of a project signs. The algorithm is pinned to it. */
export interface ServiceKey {
  kid: string
  alg: 'ES256' | 'RS256'
  publicJwk: JsonWebKey
  createdAtMs: number
}

/** What a project may use; null or absent: the service's default (settings). */
export interface ProjectLimits {
  /** Unicast targets and group messages accepted a second over HTTP, over all cores. NATS publishers are not counted. */
  messagesPerSecond?: number | null
}

export interface ProjectRecord {
  v: 1
  id: string
  name: string
  isActive: boolean
  serviceAccount: { clientId: string; keys: ServiceKey[] }
  limits?: ProjectLimits
  createdAtMs: number
  updatedAtMs: number
}

export interface ApplicationRecord {
  v: 1
  id: string
  project: string
  name: string
  createdAtMs: number
}

export interface FleetRecord {
  v: 1
  id: string
  name: string
  /** SHA-256 of the enrolment keys that are not retired, hex: all that release 0.1 knows of them. */
  keyHashes: string[]
  /** Absent: a fleet of release 0.1. */
  keys?: EnrolmentKey[]
  createdAtMs: number
}

/** An enrolment key. The key itself is shown once and not kept. */
export interface EnrolmentKey {
  /** `ek_` and the first characters of the hash. */
  id: string
  /** SHA-256, hex. */
  hash: string
  createdAtMs: number
  /** Enrolments that were granted. */
  uses: number
  /** Null: any number. */
  usesMax: number | null
  /** Null: for ever. */
  untilMs: number | null
  /** Null: not retired. */
  retiredAtMs: number | null
}

const KEY_ID_DIGITS = 12

export function newEnrolmentKeyRecord(
  hash: string,
  createdAtMs: number,
  limits: { usesMax?: number; untilMs?: number } = {},
): EnrolmentKey {
  const { usesMax = null, untilMs = null } = limits
  return { id: `ek_${hash.slice(0, KEY_ID_DIGITS)}`, hash, createdAtMs, uses: 0, usesMax, untilMs, retiredAtMs: null }
}

export function enrolmentKeysOf({ keys, keyHashes, createdAtMs }: FleetRecord): EnrolmentKey[] {
  return keys ?? keyHashes.map((hash) => newEnrolmentKeyRecord(hash, createdAtMs))
}

export function withEnrolmentKeys(fleet: FleetRecord, keys: EnrolmentKey[]): FleetRecord {
  return { ...fleet, keys, keyHashes: keys.filter(({ retiredAtMs }) => retiredAtMs === null).map(({ hash }) => hash) }
}

export const PROJECT_ID = /^[A-Za-z0-9_-]{1,64}$/
export const APPLICATION_ID = /^app_[a-z0-9]{20}$/
export const FLEET_ID = /^fleet_[a-z0-9]{12}$/
export const TOPIC_NAME = /^[A-Za-z0-9_.-]{1,64}$/
/** A user is any string of 1 to so many UTF-16 code units. */
export const USER_CHARACTERS_MAX = 128

/** A table whose values are JSON records of one kind. Methods reject with BrokerError where the store is away. */
export class RecordTable<R extends { v: 1; id: string }> {
  constructor(
    readonly table: Table,
    private readonly what: string,
  ) {}

  /** `authoritative`: never from a replica that lags. */
  async get(id: string, options?: { authoritative?: boolean }): Promise<R | null> {
    const entry = await this.table.get(id, options)
    return entry && !entry.deleted ? this.decode(entry.value) : null
  }

  /** False where there is one of that id already. */
  async create(record: R): Promise<boolean> {
    try {
      // An entry that was deleted keeps a revision; only the authoritative one may be replaced.
      const present = await this.table.get(record.id, { authoritative: true })
      if (present && !present.deleted) return false
      await this.table.put(record.id, encode(record), present?.revision ?? 0)
      return true
    } catch (error) {
      if (isLostRace(error)) return false
      throw error
    }
  }

  /** Compare-and-set; null where there is no such record. `change` may be called again with a newer one. */
  async update(id: string, change: (record: R) => R): Promise<R | null> {
    for (let attempt = 1; ; attempt++) {
      const entry = await this.table.get(id, { authoritative: true })
      if (!entry || entry.deleted) return null
      const after = change(this.decode(entry.value))
      try {
        await this.table.put(id, encode(after), entry.revision)
        return after
      } catch (error) {
        if (!isLostRace(error) || attempt === ATTEMPTS_MAX) throw error
      }
    }
  }

  async all(): Promise<R[]> {
    const entries = await this.table.entries()
    return entries.filter((e) => !e.deleted).map((e) => this.decode(e.value))
  }

  decode(value: Uint8Array): R {
    const record = JSON.parse(Buffer.from(value).toString('utf8')) as R
    if (record.v !== 1) throw new Error(`${this.what}: version ${String(record.v)} is unknown`)
    return record
  }
}

const ATTEMPTS_MAX = 8

function encode(record: object): Uint8Array {
  return Buffer.from(JSON.stringify(record))
}

function isLostRace(error: unknown): boolean {
  return error instanceof BrokerError && error.code === 'wrong_last_sequence'
}
