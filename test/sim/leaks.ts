/**
 * Strays (left-over.ts) that nothing will ever sweep out. Two kinds are known, cost a few hundred bytes each, and are counted:
 * - a kill -9 of the server brought a record back after its entry in EXPIRY had done its work;
 * - remove() had appended a copy of a record and was cut off before it wrote the copy's entry.
 * Any other is a fault: an entry that did not do its work, or a record that never had one.
 */
import { unpack } from 'msgpackr'
import { EXPIRY_STREAM } from '../../protocol/subjects.js'
import type { LogRecord } from '../../src/nats/broker.js'
import type { Stray } from './left-over.js'
import type { SimServer } from './server.js'

/** What EXPIRY will do, as it stands when a world has come to rest. */
export class Sweeps {
  private readonly due: Set<string>

  constructor(private readonly server: SimServer) {
    const expiry = server.stream(EXPIRY_STREAM)
    const entries: LogRecord[] = []
    for (let entry = expiry.next('>', 1); entry; entry = expiry.next('>', entry.sequence + 1)) entries.push(entry)
    this.due = expiryNames(entries)
  }

  /** Whether a stray that outlived every sweep is of a kind that is known. */
  isKnown(stray: Stray): boolean {
    const name = nameOf(stray.device, stray.id, stray.sequence)
    if (this.due.has(name)) return false
    if (stray.stream.undone.has(stray.sequence)) return true
    const hadEntry = expiryNames(this.server.stream(EXPIRY_STREAM).ever).has(name)
    return !hadEntry && stray.isCopy
  }
}

/** The records that entries of EXPIRY are about; their fields as src/store/expiry.ts writes them: read here on our own, so that a fault there shows. */
export function expiryNames(entries: readonly LogRecord[]): Set<string> {
  return new Set(
    entries.map(({ body }) => {
      const [, id, device, , , , queueSequence] = unpack(body) as unknown[]
      return nameOf(String(device), String(id), Number(queueSequence))
    }),
  )
}

export const nameOf = (device: string, id: string, sequence: number) => `${device} ${id} ${sequence}`
