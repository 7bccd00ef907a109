/**
 * A simulated durable consumer of JetStream, on the server's side. It knows which records wait for an acknowledgement,
 * how often each was delivered, and when it is delivered again.
 */
import type { ConsumeOptions, LogRecord } from '../../src/nats/broker.js'
import { between } from './random.js'
import type { SimServer } from './server.js'
import type { SimStream } from './stream.js'

export interface Member {
  deliver(record: LogRecord, deliveryCount: number): void
}

interface Pending {
  /** Cancels the ack wait or the delay of a nack. */
  cancel: () => void
}

export class SimConsumer {
  #options: ConsumeOptions = { durable: '', ackWaitMs: 30_000, pendingMax: 1_000 }
  #next = 1
  #turn = 0
  readonly #members: Member[] = []
  readonly #pending = new Map<number, Pending>()
  readonly #redeliveries: number[] = []
  readonly #deliveries = new Map<number, number>()
  readonly #unfollow: () => void

  constructor(
    readonly server: SimServer,
    readonly stream: SimStream,
  ) {
    this.#unfollow = server.follow(stream, { stored: () => this.#pump() })
  }

  set(options: ConsumeOptions): void {
    if (this.#options.durable === '' && options.startsAt === 'new') this.#next = this.stream.lastSequence + 1
    this.#options = options
  }

  /** Number of records that are not delivered yet or not acknowledged yet. */
  backlog(): number {
    let count = this.#pending.size
    const filter = this.#options.filter ?? '>'
    for (let record = this.stream.next(filter, this.#next); record; ) {
      if (!this.#pending.has(record.sequence)) count++
      record = this.stream.next(filter, record.sequence + 1)
    }
    return count
  }

  /** Ends the consumer, because it was deleted. */
  end(): void {
    this.serverStopped()
    this.#unfollow()
  }

  join(member: Member, options: ConsumeOptions): void {
    this.set(options)
    this.#members.push(member)
    this.#pump()
  }

  leave(member: Member): void {
    const at = this.#members.indexOf(member)
    if (at >= 0) this.#members.splice(at, 1)
  }

  ack(sequence: number): void {
    if (!this.#pending.has(sequence)) return
    this.#forget(sequence)
    if (this.stream.definition.retention === 'work') this.stream.delete(sequence, this.server.clock.now())
    this.#pump()
  }

  nack(sequence: number, delayMs: number): void {
    if (this.#pending.has(sequence)) this.#redeliverAfter(sequence, delayMs)
  }

  working(sequence: number): void {
    if (this.#pending.has(sequence)) this.#redeliverAfter(sequence, this.#options.ackWaitMs)
  }

  serverStopped(): void {
    this.#members.length = 0
    for (const pending of this.#pending.values()) pending.cancel()
  }

  /** Unacknowledged records stay so, with a new ack wait. Records that the kill brought back count as new. */
  serverStarted(): void {
    for (const sequence of this.#pending.keys()) this.#redeliverAfter(sequence, this.#options.ackWaitMs)
    if (this.#options.startsAt !== 'new') this.#next = 1
  }

  #pump(): void {
    while (this.#members.length > 0 && this.server.up) {
      const record = this.#nextRedelivery() ?? this.#nextNew()
      if (!record) return
      this.#deliver(record)
    }
  }

  #nextRedelivery(): LogRecord | null {
    for (;;) {
      const sequence = this.#redeliveries.shift()
      if (sequence === undefined) return null
      const record = this.#pending.has(sequence) ? this.stream.at(sequence) : null
      if (record) return record
      // The record was acknowledged or deleted meanwhile.
      this.#forget(sequence)
    }
  }

  #nextNew(): LogRecord | null {
    while (this.#pending.size < this.#options.pendingMax) {
      const record = this.stream.next(this.#options.filter ?? '>', this.#next)
      if (!record) return null
      this.#next = record.sequence + 1
      // After a restart the consumer reads from the start, and must skip the records that wait for an acknowledgement.
      if (!this.#pending.has(record.sequence)) return record
    }
    return null
  }

  #deliver(record: LogRecord): void {
    const member = this.#members[this.#turn++ % this.#members.length]
    const { sequence } = record
    const count = (this.#deliveries.get(sequence) ?? 0) + 1
    this.#deliveries.set(sequence, count)
    this.#redeliverAfter(sequence, this.#options.ackWaitMs)
    member?.deliver(record, count)
    if (this.server.chance(this.server.faults.redeliver)) {
      const delayMs = between(this.server.random, [1, 200])
      this.server.clock.quietly(delayMs, () => this.#members[0]?.deliver(record, count + 1))
    }
  }

  #redeliverAfter(sequence: number, ms: number): void {
    this.#pending.get(sequence)?.cancel()
    const cancel = this.server.clock.quietly(ms, () => {
      this.#redeliveries.push(sequence)
      this.#pump()
    })
    this.#pending.set(sequence, { cancel })
  }

  #forget(sequence: number): void {
    this.#pending.get(sequence)?.cancel()
    this.#pending.delete(sequence)
    this.#deliveries.delete(sequence)
  }
}
