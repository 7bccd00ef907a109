/**
 * The session table: which worker holds a device, fenced by the device's own connection number.
 *
 * A record is replaced only by one with a higher number, by compare-and-set, so that a delayed write of an abandoned
 * attempt never wins. Closing a session leaves a tombstone that keeps the number. A worker may rewrite the record of its
 * own live session.
 */
import { Packr } from 'msgpackr'
import { deviceKey } from '../../protocol/subjects.js'
import type { Clock } from '../clock.js'
import { isConflict, type Table } from '../nats/broker.js'

const RECORD_VERSION = 1

/** Most compare-and-set attempts of one call. A lost attempt means that another write for the same device won. */
const ATTEMPTS_MAX = 5

const packr = new Packr({ useRecords: false })

/** The worker that holds a device. */
export interface SessionOwner {
  instance: string
  worker: string
  /** The connection number that the device sent in HELLO. */
  connection: number
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
  | { ok: false; reason: 'stale'; connection: number }

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
        if (previous && !mayReplace(owner, previous)) {
          return { ok: false, reason: 'stale', connection: previous.connection }
        }
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

function mayReplace(owner: SessionOwner, stored: SessionRecord): boolean {
  if (owner.connection !== stored.connection) return owner.connection > stored.connection
  return stored.live && stored.instance === owner.instance && stored.worker === owner.worker
}

function encode(r: SessionRecord): Uint8Array {
  return packr.pack([RECORD_VERSION, r.instance, r.worker, r.connection, r.live, r.atMs])
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
    revision,
  }
}
