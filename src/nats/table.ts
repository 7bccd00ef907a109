/** A KV bucket as NATS tools know it, over its stream `KV_<bucket>`: `$KV.<bucket>.<key>`, deletes as a marker. */

import type { Subscription, Table, TableEntry, TailOptions } from './broker.js'
import { BrokerError, type BrokerStatus, type Consumption, type Log, type LogRecord } from './broker.js'

const OPERATION = 'KV-Operation'
const EMPTY = new Uint8Array(0)

export interface TailHooks {
  /** After a reset the next record comes from here; without it, from the last record handed over + 1. */
  restartAt?: () => number
  /** All records that were there when the tail began (or began anew) were handed over. */
  caughtUp?: () => void
}

/** What a table needs of a broker. The simulated one makes its tables with this class too. */
export interface TableGround {
  /** Of the stream `KV_<bucket>`. */
  log: Log
  tail(options: TailOptions, handler: (record: LogRecord) => void, hooks: TailHooks): Promise<Consumption>
  onStatus(handler: (status: BrokerStatus) => void): Subscription
}

export class LogTable implements Table {
  readonly #ground: TableGround
  readonly #log: Log
  readonly #prefix: string

  constructor(
    readonly name: string,
    ground: TableGround,
  ) {
    this.#ground = ground
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
      if (expectedRevision !== 0 || !isWrongLast(error)) throw error
      // A deleted key is absent, but its marker has a revision: expect that one.
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
    const status = this.#ground.onStatus((change) => {
      if (change === 'closed') closed(new BrokerError('disconnected', `watch of ${this.name}: closed`))
    })
    const options = { filter: this.#prefix + filter, fromSequence: 1 }
    try {
      const tail = await this.#ground.tail(
        options,
        (record) => handler(this.#entryOf(record)),
        // A bucket keeps only the last value of a key: what changed twice in a gap would be missed, so begin again.
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
    }
  }
}

const isDeleted = (record: LogRecord) => {
  const operation = record.headers?.[OPERATION]
  return operation === 'DEL' || operation === 'PURGE'
}

const isWrongLast = (error: unknown) => error instanceof BrokerError && error.code === 'wrong_last_sequence'
