/**
 * Projects, applications and fleets (tables PROJECTS, APPLICATIONS and FLEETS). The records are JSON, so that an operator
 * can read them with any NATS tool. The tables are small, and only administration writes them.
 */
import type { JsonWebKey } from 'node:crypto'
import { isConflict, type Table } from '../nats/broker.js'

/** A public key of a project's service account. The algorithm is part of the key, so that a token cannot choose it. */
export interface ServiceKey {
  kid: string
  alg: 'ES256' | 'RS256'
  publicJwk: JsonWebKey
  createdAtMs: number
}

/** Limits of a project. Null or absent: the default from the settings. */
export interface ProjectLimits {
  /** Accepted unicast targets and group messages per second over HTTP, for all cores together, without NATS publishers. */
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
  /** True: it registers with a user token only. */
  needsUser?: boolean
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
  /** The projects for whose applications its devices may register; absent: for all. */
  projects?: string[]
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
/** A user is any string of 1 to this many UTF-16 code units. */
export const USER_CHARACTERS_MAX = 128

/** A table of JSON records of one kind. Methods reject with BrokerError if the store is unavailable. */
export class RecordTable<R extends { v: 1; id: string }> {
  constructor(
    readonly table: Table,
    private readonly kind: string,
  ) {}

  /** With `authoritative`, a replica that lags cannot answer. */
  async get(id: string, options?: { authoritative?: boolean }): Promise<R | null> {
    const entry = await this.table.get(id, options)
    return entry && !entry.deleted ? this.decode(entry.value) : null
  }

  /** Resolves with false if a record with this id exists. */
  async create(record: R): Promise<boolean> {
    try {
      // A deleted entry keeps a revision, and only the revision of the leader can be replaced.
      const present = await this.table.get(record.id, { authoritative: true })
      if (present && !present.deleted) return false
      await this.table.put(record.id, encode(record), present?.revision ?? 0)
      return true
    } catch (error) {
      if (isConflict(error)) return false
      throw error
    }
  }

  /** Compare-and-set; null if there is no such record. `change` runs again if another write was faster. */
  async update(id: string, change: (record: R) => R): Promise<R | null> {
    for (let attempt = 1; ; attempt++) {
      const entry = await this.table.get(id, { authoritative: true })
      if (!entry || entry.deleted) return null
      const after = change(this.decode(entry.value))
      try {
        await this.table.put(id, encode(after), entry.revision)
        return after
      } catch (error) {
        if (!isConflict(error) || attempt === ATTEMPTS_MAX) throw error
      }
    }
  }

  async all(): Promise<R[]> {
    const entries = await this.table.entries()
    return entries.filter((e) => !e.deleted).map((e) => this.decode(e.value))
  }

  decode(value: Uint8Array): R {
    const record = JSON.parse(Buffer.from(value).toString('utf8')) as R
    if (record.v !== 1) throw new Error(`${this.kind}: version ${String(record.v)} is unknown`)
    return record
  }
}

const ATTEMPTS_MAX = 8

function encode(record: object): Uint8Array {
  return Buffer.from(JSON.stringify(record))
}
