/**
 * Removes records from a work queue that its consumer has acknowledged and that came back. After a kill -9, nats-server
 * 2.9 restores removed records in the newest blocks of a stream. The consumer remembers their acknowledgement and does
 * not deliver them, so nothing would remove them: every such restart would leave the queue a little fuller, until it
 * refuses messages.
 *
 * The sweeper deletes them one by one. A purge, even below the acknowledgement floor, makes 2.9 forget which records its
 * consumers still have to deliver; one in two such purges lost records in a test.
 */

import { BrokerError, type ConsumeOptions, type Log, type LogRecord } from './broker.js'
import { type Connection, json } from './client/connection.js'
import { parseAnswer } from './client/jetstream-api.js'

const SWEEP_MS = 60_000
/** About the number of records in the newest blocks of a stream. The next sweep deletes the rest. */
const DELETES_MAX = 20_000
const DELETES_AT_ONCE = 64

interface StreamInfo {
  config: { retention: string }
  state: { messages: number; first_seq: number }
}

interface ConsumerInfo {
  ack_floor: { stream_seq: number }
}

export class Sweeper {
  readonly #timer: NodeJS.Timeout
  #secondSweep: NodeJS.Timeout | null = null

  constructor(
    readonly connection: Connection,
    readonly log: Pick<Log, 'name' | 'next' | 'delete'>,
    readonly options: ConsumeOptions,
    readonly reuse: {
      /** True if the sequence belonged to another record before: nobody has acknowledged this record. */
      isReused(record: LogRecord): boolean
      /** Called for such a record. The consumer takes it for acknowledged and would never deliver it. */
      onReused(): void
    },
  ) {
    this.#timer = setInterval(() => void this.sweep(), SWEEP_MS).unref()
  }

  stop(): void {
    clearInterval(this.#timer)
    if (this.#secondSweep) clearTimeout(this.#secondSweep)
  }

  /** Sweeps now, and again when the deliveries that a restart interrupted are repeated and the floor has risen. */
  async sweepTwice(): Promise<void> {
    if (this.#secondSweep) clearTimeout(this.#secondSweep)
    this.#secondSweep = setTimeout(() => void this.sweep(), 2 * this.options.ackWaitMs).unref()
    await this.sweep()
  }

  /** Deletes up to the acknowledgement floor, below which every record is acknowledged. Retries a failure later. */
  async sweep(): Promise<void> {
    if (this.options.filter || !this.connection.link.connected) return
    try {
      const { config, state } = await this.#ask<StreamInfo>(`STREAM.INFO.${this.log.name}`, {})
      if (config.retention !== 'workqueue' || state.messages === 0) return
      const { ack_floor } = await this.#ask<ConsumerInfo>(`CONSUMER.INFO.${this.log.name}.${this.options.durable}`, {})
      if (state.first_seq > ack_floor.stream_seq) return
      await this.#deleteUpTo(ack_floor.stream_seq)
    } catch (error) {
      this.connection.report(`sweep of ${this.log.name}`, error)
    }
  }

  async #deleteUpTo(floor: number): Promise<void> {
    const { log } = this
    let record = await log.next('>', 1)
    for (let count = 0; record && record.sequence <= floor && count < DELETES_MAX; ) {
      const page: number[] = []
      for (; record && record.sequence <= floor && page.length < DELETES_AT_ONCE; count++) {
        if (this.reuse.isReused(record)) {
          this.reuse.onReused()
          return
        }
        page.push(record.sequence)
        record = await log.next('>', record.sequence + 1)
      }
      await Promise.all(page.map((sequence) => log.delete(sequence)))
    }
  }

  async #ask<T extends object>(verb: string, query: object): Promise<T> {
    const { link } = this.connection
    const message = await link.ask(`$JS.API.${verb}`, json(query), link.settings.requestTimeoutMs)
    const answer = parseAnswer<T>(message.data, verb)
    if (!answer) throw new BrokerError('unavailable', `${verb}: no answer`)
    return answer
  }
}
