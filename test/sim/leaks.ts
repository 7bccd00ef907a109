/**
 * Leaks: strays (left-over.ts) that stay in the store for ever. Two kinds are known; each record costs a few hundred
 * bytes, and a run counts them:
 * - a kill -9 of nats-server brought a record back after its entry in EXPIRY had been used;
 * - a process appended a copy of a record and crashed before it wrote the copy's entry in EXPIRY.
 * Any other stray is a violation: its entry had no effect, or it never had one.
 */
import { unpack } from 'msgpackr'
import { EXPIRY_STREAM } from '../../protocol/subjects.js'
import type { LogRecord } from '../../src/nats/broker.js'
import type { Stray } from './left-over.js'
import type { SimServer } from './server.js'

/** The records that EXPIRY will delete, taken when the world has come to rest. */
export class PlannedSweeps {
  private readonly due: Set<string>

  constructor(private readonly server: SimServer) {
    const expiry = server.stream(EXPIRY_STREAM)
    const entries: LogRecord[] = []
    for (let entry = expiry.next('>', 1); entry; entry = expiry.next('>', entry.sequence + 1)) entries.push(entry)
    this.due = expiryNames(entries)
  }

  /** True if a stray that is left after every message has expired is of a known kind. */
  isKnownLeak(stray: Stray): boolean {
    const name = nameOf(stray.device, stray.id, stray.sequence)
    if (this.due.has(name)) return false
    if (stray.stream.undone.has(stray.sequence)) return true
    const hadEntry = expiryNames(this.server.stream(EXPIRY_STREAM).ever).has(name)
    return !hadEntry && stray.isCopy
  }
}

/**
 * The records to which entries of EXPIRY refer. This function decodes the fields itself instead of using
 * src/store/expiry.ts, so that an error there is found.
 */
export function expiryNames(entries: readonly LogRecord[]): Set<string> {
  return new Set(
    entries.map(({ body }) => {
      const [, id, device, , , , queueSequence] = unpack(body) as unknown[]
      return nameOf(String(device), String(id), Number(queueSequence))
    }),
  )
}

export const nameOf = (device: string, id: string, sequence: number) => `${device} ${id} ${sequence}`
