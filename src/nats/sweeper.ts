/**
 * Removes from a work queue what its consumer acknowledged long ago. After a kill -9 nats-server 2.9 brings removed
 * records of its newest blocks back; the consumer remembers that they were acknowledged, so nobody would ever remove them
 * again, and each such restart would leave the queue a little fuller, until it refuses messages.
 *
 * They are deleted one by one: a purge of a stream, even below the floor, makes 2.9 forget which records its consumers
 * wait for, and those would never be delivered again (seen: one in two).
 */

import { BrokerError, type ConsumeOptions, type Log, type LogRecord } from './broker.js'
import { parseAnswer } from './client/jetstream-api.js'
import { json, type Shared } from './client/shared.js'

const SWEEP_MS = 60_000
/** As many as the newest blocks of a stream hold, roughly; the rest is for the next sweep. */
const DELETES_MAX = 20_000

interface StreamInfo {
  config: { retention: string }
  state: { messages: number; first_seq: number }
}

interface ConsumerInfo {
  ack_floor: { stream_seq: number }
}

export class Sweeper {
  readonly #timer: NodeJS.Timeout
  #soon: NodeJS.Timeout | null = null

  constructor(
    readonly shared: Shared,
    readonly log: Pick<Log, 'name' | 'next' | 'delete'>,
    readonly options: ConsumeOptions,
    readonly reuse: {
      /** The record's sequence was another one's before: nobody acknowledged this one. */
      isOf(record: LogRecord): boolean
      /** Then the consumer takes for acknowledged, and delivers to nobody, what is stored. */
      found(): void
    },
  ) {
    this.#timer = setInterval(() => void this.sweep(), SWEEP_MS).unref()
  }

  stop(): void {
    clearInterval(this.#timer)
    if (this.#soon) clearTimeout(this.#soon)
  }

  /** Now, and once more when what was out at a restart has come again and the floor has risen. */
  async sweepTwice(): Promise<void> {
    if (this.#soon) clearTimeout(this.#soon)
    this.#soon = setTimeout(() => void this.sweep(), 2 * this.options.ackWaitMs).unref()
    await this.sweep()
  }

  /** Everything up to the acknowledgement floor was acknowledged, by definition. What fails is tried again later. */
  async sweep(): Promise<void> {
    if (this.options.filter || !this.shared.link.connected) return
    try {
      const { config, state } = await this.#ask<StreamInfo>(`STREAM.INFO.${this.log.name}`, {})
      if (config.retention !== 'workqueue' || state.messages === 0) return
      const { ack_floor } = await this.#ask<ConsumerInfo>(`CONSUMER.INFO.${this.log.name}.${this.options.durable}`, {})
      if (state.first_seq > ack_floor.stream_seq) return
      await this.#deleteUpTo(ack_floor.stream_seq)
    } catch (error) {
      this.shared.report(`sweep of ${this.log.name}`, error)
    }
  }

  async #deleteUpTo(floor: number): Promise<void> {
    const { log } = this
    let record = await log.next('>', 1)
    for (let count = 0; record && record.sequence <= floor && count < DELETES_MAX; count++) {
      if (this.reuse.isOf(record)) {
        this.reuse.found()
        return
      }
      await log.delete(record.sequence)
      record = await log.next('>', record.sequence + 1)
    }
  }

  async #ask<T extends object>(verb: string, query: object): Promise<T> {
    const { link } = this.shared
    const message = await link.ask(`$JS.API.${verb}`, json(query), link.settings.requestTimeoutMs)
    const answer = parseAnswer<T>(message.data, verb)
    if (!answer) throw new BrokerError('unavailable', `${verb}: no answer`)
    return answer
  }
}
