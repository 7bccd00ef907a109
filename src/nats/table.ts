/**
 * A KV bucket in the format of the NATS tools: the stream `KV_<bucket>` has the subjects `$KV.<bucket>.<key>`, and a
 * delete appends a marker.
 */

import type { Subscription, Table, TableEntry, TailOptions } from './broker.js'
import { BrokerError, type BrokerStatus, type Consumption, isConflict, type Log, type LogRecord } from './broker.js'

const OPERATION = 'KV-Operation'
const EMPTY = new Uint8Array(0)

export interface TailHooks {
  /** The sequence to resume from after a reset. Default: the last delivered sequence + 1. */
  restartAt?: () => number
  /** Called when the tail has delivered every record that existed when it started or restarted. */
  caughtUp?: () => void
}

/** The parts of a broker that a table needs. The simulated broker builds its tables from this class too. */
export interface TableParts {
  /** The stream `KV_<bucket>`. */
  log: Log
  tail(options: TailOptions, handler: (record: LogRecord) => void, hooks: TailHooks): Promise<Consumption>
  onStatus(handler: (status: BrokerStatus) => void): Subscription
}

export class LogTable implements Table {
  readonly #parts: TableParts
  readonly #log: Log
  readonly #prefix: string

  constructor(
    readonly name: string,
    ground: TableParts,
  ) {
    this.#parts = ground
    this.#log = ground.log
    this.#prefix = `$KV.${name}.`
  }

  async get(key: string, options?: { authoritative?: boolean }): Promise<TableEntry | null> {
    const record = await this.#log.last(this.#prefix + key, options)
    const entry = record && this.#entryOf(record)
    return entry?.deleted ? null : entry
  }

  async put(key: string, value: Uint8Array, expectedRevision?: number): Promise<number> {
    const subject = this.#prefix + key
    if (expectedRevision === undefined) return this.#log.append(subject, value)
    const expect = (revision: number) => this.#log.append(subject, value, { expectedLastSubjectSequence: revision })
    try {
      return await expect(expectedRevision)
    } catch (error) {
      if (expectedRevision !== 0 || !isConflict(error)) throw error
      // A deleted key counts as absent, but its marker has a revision: expect that revision.
      const last = await this.#log.last(subject, { authoritative: true })
      if (!last || !isDeleted(last)) throw error
      return expect(last.sequence)
    }
  }

  async delete(key: string): Promise<void> {
    await this.#log.append(this.#prefix + key, EMPTY, { headers: { [OPERATION]: 'DEL' } })
  }

  async entries(filter = '>'): Promise<TableEntry[]> {
    const found = new Map<string, TableEntry>()
    let handler = (entry: TableEntry) => void found.set(entry.key, entry)
    const watch = await this.watch(filter, (entry) => handler(entry))
    handler = () => {}
    await watch.stop()
    return [...found.values()].filter((entry) => !entry.deleted)
  }

  async watch(filter: string, handler: (entry: TableEntry) => void): Promise<Consumption> {
    let caughtUp = () => {}
    let closed: (error: Error) => void = () => {}
    const present = new Promise<void>((resolve, reject) => {
      caughtUp = resolve
      closed = reject
    })
    const status = this.#parts.onStatus((change) => {
      if (change === 'closed') closed(new BrokerError('disconnected', `watch of ${this.name}: closed`))
    })
    const options = { filter: this.#prefix + filter, fromSequence: 1 }
    try {
      const tail = await this.#parts.tail(
        options,
        (record) => handler(this.#entryOf(record)),
        // A bucket keeps only the last value of a key. Resuming in the middle could miss a change, so start again.
        { restartAt: () => 1, caughtUp: () => caughtUp() },
      )
      await present
      return tail
    } finally {
      status.unsubscribe()
    }
  }

  #entryOf(record: LogRecord): TableEntry {
    const deleted = isDeleted(record)
    return {
      key: record.subject.slice(this.#prefix.length),
      value: deleted ? EMPTY : record.body,
      revision: record.sequence,
      deleted,
      storedAtMs: record.storedAtMs,
    }
  }
}

const isDeleted = (record: LogRecord) => {
  const operation = record.headers?.[OPERATION]
  return operation === 'DEL' || operation === 'PURGE'
}
