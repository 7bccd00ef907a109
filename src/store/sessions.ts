/**
 * The session table: which worker has a device, fenced by the device's own connection number (design 3.9).
 *
 * A record is only replaced by one with a greater number, by compare-and-set, so that a delayed write of an abandoned
 * attempt never wins. Closing leaves a tombstone that keeps the number. A worker may write its own live session again.
 */
import { Packr } from 'msgpackr'
import { deviceKey } from '../../protocol/subjects.js'
import type { Clock } from '../clock.js'
import { BrokerError, type Table } from '../nats/broker.js'

const RECORD_VERSION = 1

/** Compare-and-set attempts of one call; each loss means that another write of the same device won. */
const ATTEMPTS_MAX = 5

const packr = new Packr({ useRecords: false })

/** Where a worker has a device. */
export interface SessionOwner {
  instance: string
  worker: string
  /** The device's connection number, from its HELLO. */
  connection: number
}

export interface SessionRecord extends SessionOwner {
  /** False: a tombstone, the session with this number has ended. */
  live: boolean
  /** Writer's clock, Unix milliseconds. */
  atMs: number
}

export interface SessionEntry extends SessionRecord {
  revision: number
}

export type ClaimResult =
  | {
      ok: true
      revision: number
      /** What stood there before; null where nothing did, or where a known revision made the look unnecessary. */
      previous: SessionEntry | null
    }
  /** `connection`: the number that stands in the table. */
  | { ok: false; reason: 'stale'; connection: number }

export class SessionTable {
  constructor(
    private readonly table: Table,
    private readonly clock: Clock,
  ) {}

  /**
   * Writes that `owner` has the device. Always a write, also where the session already stands there, so that a
   * tombstone on its way loses. `knownRevision` (with the smaller number it stands for already checked) saves the read.
   * Rejects with BrokerError when the table's state is unknown.
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
        if (!isLostRace(error) || attempt === ATTEMPTS_MAX) throw error
        expected = null
      }
    }
  }

  /** Leaves the tombstone of this very session; false where the table already has another write. */
  async close(device: string, owner: SessionOwner, revision: number): Promise<boolean> {
    try {
      await this.table.put(deviceKey(device), encode({ ...owner, live: false, atMs: this.clock.now() }), revision)
      return true
    } catch (error) {
      if (isLostRace(error)) return false
      throw error
    }
  }

  /** `authoritative` is for decisions that must not miss a session; without it a replica may answer late. */
  async lookup(device: string, options: { authoritative: boolean }): Promise<SessionEntry | null> {
    const entry = await this.table.get(deviceKey(device), options)
    return entry === null || entry.deleted ? null : decode(entry.value, entry.revision)
  }
}

function mayReplace(owner: SessionOwner, stored: SessionRecord): boolean {
  if (owner.connection !== stored.connection) return owner.connection > stored.connection
  return stored.live && stored.instance === owner.instance && stored.worker === owner.worker
}

function isLostRace(error: unknown): boolean {
  return error instanceof BrokerError && error.code === 'wrong_last_sequence'
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
