/**
 * The session table: which worker holds a device, fenced by the device's own connection number.
 *
 * A record is replaced only by one with a higher number, by compare-and-set, so that a delayed write of an abandoned
 * attempt never wins. Closing a session leaves a tombstone that keeps the number. A worker may rewrite the record of its
 * own live session.
 *
 * A renewed token begins a new fence: its session replaces one of an older token whatever the numbers are, and an older
 * token replaces nothing any more. Within one token a number rises by CONNECTION_STEP at most, so that a stolen credential
 * cannot use up the numbers of its device (ADR 0024).
 */
import { Packr } from 'msgpackr'
import { WireLimits } from '../../protocol/limits.js'
import { deviceKey } from '../../protocol/subjects.js'
import type { Clock } from '../clock.js'
import { isConflict, type Table } from '../nats/broker.js'

const RECORD_VERSION = 1

/** Most compare-and-set attempts of one call. A lost attempt means that another write for the same device won. */
const ATTEMPTS_MAX = 5

const packr = new Packr({ useRecords: false })

/**
 * Most by which one connection number may exceed the number before it: 2^29 connections would use up all numbers. Devices
 * that reserve blocks of 1,000 numbers may restart 16,000 times without a connection.
 */
export const CONNECTION_STEP: number = WireLimits.CONNECTION_STEP.value
/** Greatest number where the service has seen none of this token. */
export const CONNECTION_FIRST_MAX = 2 ** 48

/** What orders the sessions of one device: the token, then the connection number. */
export interface Fence {
  /** The device's connection number, from its HELLO. */
  connection: number
  /** When the device token was issued; absent or 0: not known, the number alone counts. */
  tokenIssuedAtMs?: number
}

/** Where a worker has a device. */
export interface SessionOwner extends Fence {
  instance: string
  worker: string
}

/** Why a session may not replace another one. */
export type FenceRefusal =
  /** The number is not above the one of the same token. */
  | 'stale_connection'
  /** The device has used a newer token. */
  | 'token_expired'
  /** The number is too far above the one before it. */
  | 'connection_ahead'

/** Null: a session with `next` may replace one with `before`; null before: there was none. */
export function refusalOf(next: Fence, before: Fence | null): FenceRefusal | null {
  const { tokenIssuedAtMs: tokenBefore = 0, connection: numberBefore = 0 } = before ?? {}
  const token = next.tokenIssuedAtMs ?? 0
  // A worker of the release before does not say which token: then the number alone counts.
  const isKnown = token > 0 && tokenBefore > 0
  if (isKnown && token < tokenBefore) return 'token_expired'
  const isRenewed = isKnown && token > tokenBefore
  if (!isRenewed && next.connection <= numberBefore) return 'stale_connection'
  const isFirst = isRenewed || numberBefore === 0
  const most = isFirst ? Math.max(CONNECTION_FIRST_MAX, numberBefore + CONNECTION_STEP) : numberBefore + CONNECTION_STEP
  return next.connection > most ? 'connection_ahead' : null
}

export interface SessionRecord extends SessionOwner {
  /** False in a tombstone: the session with this number has ended. */
  live: boolean
  /** Unix milliseconds by the clock of the writer. */
  atMs: number
}

export interface SessionEntry extends SessionRecord {
  revision: number
}

export type ClaimResult =
  | {
      ok: true
      revision: number
      /** The record before; null if there was none, or if `knownRevision` made reading it unnecessary. */
      previous: SessionEntry | null
    }
  /** `connection`: the number in the table. */
  | { ok: false; reason: FenceRefusal; connection: number }

export class SessionTable {
  constructor(
    private readonly table: Table,
    private readonly clock: Clock,
  ) {}

  /**
   * Makes `owner` the holder of the device. It always writes, even if the table already says so, so that a tombstone on
   * its way loses. With `knownRevision`, the caller has checked the number in the record of that revision, which saves
   * reading it. Rejects with BrokerError if the state of the table is unknown.
   */
  async claim(device: string, owner: SessionOwner, knownRevision?: number): Promise<ClaimResult> {
    const key = deviceKey(device)
    const value = encode({ ...owner, live: true, atMs: this.clock.now() })
    let expected = knownRevision ?? null
    let previous: SessionEntry | null = null
    for (let attempt = 1; ; attempt++) {
      if (expected === null) {
        previous = await this.lookup(device, { authoritative: true })
        const reason = previous && isOwn(owner, previous) ? null : refusalOf(owner, previous)
        if (reason) return { ok: false, reason, connection: previous?.connection ?? 0 }
        expected = previous?.revision ?? 0
      }
      try {
        return { ok: true, revision: await this.table.put(key, value, expected), previous }
      } catch (error) {
        if (!isConflict(error) || attempt === ATTEMPTS_MAX) throw error
        expected = null
      }
    }
  }

  /**
   * Forgets which numbers and tokens the device has used. Resolves with the session that stood there, whose worker has to
   * be told; null where there was none.
   */
  async reset(device: string): Promise<SessionEntry | null> {
    for (let attempt = 1; ; attempt++) {
      const previous = await this.lookup(device, { authoritative: true })
      if (!previous) return null
      const { instance, worker } = previous
      const nothing = encode({ instance, worker, connection: 0, live: false, atMs: this.clock.now() })
      try {
        await this.table.put(deviceKey(device), nothing, previous.revision)
        return previous
      } catch (error) {
        if (!isConflict(error) || attempt === ATTEMPTS_MAX) throw error
      }
    }
  }

  /** Leaves the tombstone of this session. Resolves with false if the table has a later write. */
  async close(device: string, owner: SessionOwner, revision: number): Promise<boolean> {
    try {
      await this.table.put(deviceKey(device), encode({ ...owner, live: false, atMs: this.clock.now() }), revision)
      return true
    } catch (error) {
      if (isConflict(error)) return false
      throw error
    }
  }

  /** Use `authoritative` for a decision that must not miss a session; without it, a replica may answer late. */
  async lookup(device: string, options: { authoritative: boolean }): Promise<SessionEntry | null> {
    const entry = await this.table.get(deviceKey(device), options)
    return entry === null || entry.deleted ? null : decode(entry.value, entry.revision)
  }
}

/** The very session that the worker has, to be written again. */
function isOwn(owner: SessionOwner, stored: SessionRecord): boolean {
  if (owner.connection !== stored.connection || (owner.tokenIssuedAtMs ?? 0) !== stored.tokenIssuedAtMs) return false
  return stored.live && stored.instance === owner.instance && stored.worker === owner.worker
}

function encode(r: SessionRecord): Uint8Array {
  return packr.pack([RECORD_VERSION, r.instance, r.worker, r.connection, r.live, r.atMs, r.tokenIssuedAtMs ?? 0])
}

function decode(value: Uint8Array, revision: number): SessionEntry {
  const f = packr.unpack(value) as unknown[]
  if (!Array.isArray(f) || f[0] !== RECORD_VERSION)
    throw new Error(`session record: version ${String(f?.[0])} is unknown`)
  return {
    instance: f[1] as string,
    worker: f[2] as string,
    connection: f[3] as number,
    live: f[4] as boolean,
    atMs: f[5] as number,
    // Records of 0.1 do not have it.
    tokenIssuedAtMs: (f[6] as number | undefined) ?? 0,
    revision,
  }
}
