/**
 * The simulated counterpart of src/nats/log.ts: one stream for one process. Requests travel to the server with
 * latency and faults; consumers and tails attach again after each reconnect.
 */
import {
  type AppendOptions,
  BrokerError,
  type ConsumeOptions,
  type Consumption,
  type Delivery,
  type Log,
  type LogRecord,
  type LogState,
  type TailOptions,
} from '../../src/nats/broker.js'
import { checkSubject } from '../../src/nats/client/subject.js'
import type { TailHooks } from '../../src/nats/table.js'
import type { SimClient } from './client.js'
import type { Member } from './consumer.js'
import { between } from './random.js'
import type { SimStream } from './stream.js'

const RETRY_MS = 250

export class SimLog implements Log {
  constructor(
    readonly client: SimClient,
    readonly name: string,
  ) {}

  append(subject: string, body: Uint8Array, options: AppendOptions = {}): Promise<number> {
    const { server } = this.client
    const sent = body.slice()
    const work = () => {
      // The real client refuses this append itself (src/nats/server/headroom.ts).
      const { bytes, refusesAtBytes } = this.#stream().state()
      if (bytes > refusesAtBytes && !options.usesReserve) {
        throw new BrokerError('full', `${this.name} is full up to its reserve`)
      }
      if (server.chance(server.faults.refuseAppend)) throw new BrokerError('unavailable', `${subject}: refused`)
      return server.append(this.#stream(), subject, sent, options)
    }
    return refusalOf(subject) ?? this.client.ask(subject, work)
  }

  last(subject: string, options?: { authoritative?: boolean }): Promise<LogRecord | null> {
    const look = (stream: SimStream, asOfMs: number) => stream.last(subject, asOfMs)
    return refusalOf(subject) ?? this.#read(look, options?.authoritative)
  }

  at(sequence: number, options?: { authoritative?: boolean }): Promise<LogRecord | null> {
    return this.#read((stream, asOfMs) => notAfter(stream.at(sequence), asOfMs), options?.authoritative)
  }

  next(filter: string, fromSequence: number, options?: { authoritative?: boolean }): Promise<LogRecord | null> {
    return this.#read((stream, asOfMs) => notAfter(stream.next(filter, fromSequence), asOfMs), options?.authoritative)
  }

  delete(sequence: number): Promise<boolean> {
    const { server, name } = this.client
    return this.client.ask(this.name, () => {
      server.observe?.(`${name} deletes`, this.name, sequence)
      return this.#stream().delete(sequence, server.clock.now())
    })
  }

  purge(filter: string, beforeSequence: number): Promise<void> {
    return this.client.ask(this.name, () => {
      this.#stream().purge(filter, beforeSequence, this.client.server.clock.now())
    })
  }

  state(): Promise<LogState> {
    return this.client.ask(this.name, () => this.#stream().state())
  }

  async consume(options: ConsumeOptions, handler: (delivery: Delivery) => void): Promise<Consumption> {
    const consumption = new SimConsumption(this.client, this.name, options, handler)
    await consumption.start()
    return consumption
  }

  createConsumer(options: ConsumeOptions): Promise<void> {
    return this.client.ask(this.name, () => this.client.server.consumer(this.#stream(), options.durable).set(options))
  }

  deleteConsumer(durable: string): Promise<void> {
    return this.client.ask(this.name, () => this.client.server.forgetConsumer(this.#stream(), durable))
  }

  backlog(durable: string): Promise<number | null> {
    return this.client.ask(
      this.name,
      () => this.client.server.knownConsumer(this.#stream(), durable)?.backlog() ?? null,
    )
  }

  async tail(options: TailOptions, handler: (record: LogRecord) => void, hooks: TailHooks = {}): Promise<Consumption> {
    const tail = new SimTail(this.client, this.name, options, handler, hooks)
    await tail.start()
    return tail
  }

  #stream(): SimStream {
    return this.client.server.stream(this.name)
  }

  #read(
    look: (stream: SimStream, asOfMs: number) => LogRecord | null,
    authoritative = false,
  ): Promise<LogRecord | null> {
    const { server } = this.client
    const { staleRead, staleMs } = server.faults
    return this.client.ask(this.name, () => {
      const lagMs = !authoritative && server.chance(staleRead) ? between(server.random, staleMs) : 0
      const record = look(this.#stream(), server.clock.now() - lagMs)
      return record && copyOf(record)
    })
  }
}

/** A consumption that attaches to the server's side, and again after each reconnect, until it is stopped. */
abstract class Attachment implements Consumption {
  #stopped = false
  #attempt = 0
  #cancelRetry = () => {}
  readonly #status: { unsubscribe(): void }

  constructor(
    readonly client: SimClient,
    readonly stream: string,
    readonly options: { filter?: string },
  ) {
    this.#status = client.onStatus((status) => {
      if (status === 'disconnected') this.leave()
      if (status === 'reconnected') this.#again()
      if (status === 'closed') void this.stop()
    })
  }

  async start(): Promise<void> {
    try {
      await this.#join()
    } catch (error) {
      await this.stop()
      throw error
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.#attempt++
    this.#cancelRetry()
    this.#status.unsubscribe()
    this.client.toServer(this.stream, () => this.leave())
  }

  protected abstract join(stream: SimStream): void
  protected abstract leave(): void
  protected get stopped(): boolean {
    return this.#stopped
  }

  #join(): Promise<void> {
    const attempt = ++this.#attempt
    return this.client.ask(this.stream, () => {
      const stream = this.client.server.stream(this.stream)
      stream.checkFilter(this.options.filter)
      this.leave()
      if (attempt !== this.#attempt) return
      this.join(stream)
      this.client.server.onConnectionEnd(this.client, () => this.leave())
    })
  }

  #again(): void {
    if (this.#stopped) return
    this.#join().catch(() => {
      // Without a connection the next `reconnected` tries again.
      if (this.#stopped || !this.client.connected()) return
      this.#cancelRetry()
      this.#cancelRetry = this.client.clock.after(RETRY_MS, () => this.#again())
    })
  }
}

class SimConsumption extends Attachment {
  #leave = () => {}

  constructor(
    client: SimClient,
    stream: string,
    override readonly options: ConsumeOptions,
    readonly handler: (delivery: Delivery) => void,
  ) {
    super(client, stream, options)
  }

  protected join(stream: SimStream): void {
    const { client } = this
    const consumer = client.server.consumer(stream, this.options.durable)
    const lane = `consumer ${stream.name} ${this.options.durable}`
    const answer = (fn: () => void) => {
      if (!client.server.chance(client.server.faults.loseAck)) client.toServer(lane, fn)
    }
    const member: Member = {
      deliver: (record, deliveryCount) => {
        const { sequence } = record
        const delivery = {
          ...copyOf(record),
          deliveryCount,
          ack: () => answer(() => consumer.ack(sequence)),
          nack: (delayMs: number) => answer(() => consumer.nack(sequence, delayMs)),
          working: () => answer(() => consumer.working(sequence)),
        }
        client.toClient(lane, () => {
          if (!this.stopped) this.handler(delivery)
        })
      },
    }
    this.#leave = () => consumer.leave(member)
    consumer.join(member, this.options)
  }

  protected leave(): void {
    this.#leave()
  }
}

class SimTail extends Attachment {
  #next: number
  #leave = () => {}

  constructor(
    client: SimClient,
    stream: string,
    override readonly options: TailOptions,
    readonly handler: (record: LogRecord) => void,
    readonly hooks: TailHooks,
  ) {
    super(client, stream, options)
    this.#next = options.fromSequence
  }

  protected join(stream: SimStream): void {
    const { client, hooks } = this
    const { server } = client
    const filter = this.options.filter ?? '>'
    const lane = `tail ${stream.name} ${filter}`
    // The server's cursor is ahead of the client's, `#next`, by the records under way.
    let cursor = hooks.restartAt?.() ?? this.#next
    let isAttached = true
    const send = (fn: () => void) => {
      const arrive = () => {
        if (isAttached && !this.stopped) fn()
      }
      client.toClient(lane, arrive, between(server.random, server.faults.tailDelayMs))
    }
    const stored = () => {
      for (let record = stream.next(filter, cursor); record; ) {
        const copy = copyOf(record)
        cursor = record.sequence + 1
        record = stream.next(filter, cursor)
        const caughtUp = record === null
        send(() => {
          this.#next = copy.sequence + 1
          this.handler(copy)
          if (caughtUp) hooks.caughtUp?.()
        })
      }
    }
    const unfollow = server.follow(stream, { stored })
    this.#leave = () => {
      isAttached = false
      unfollow()
    }
    if (stream.next(filter, cursor)) stored()
    else send(() => hooks.caughtUp?.())
  }

  protected leave(): void {
    this.#leave()
  }
}

/** A rejected promise for an invalid subject; null for a valid one. */
function refusalOf(subject: string): Promise<never> | null {
  try {
    checkSubject(subject)
    return null
  } catch (error) {
    return Promise.reject(error)
  }
}

const copyOf = (record: LogRecord): LogRecord => ({ ...record, body: record.body.slice() })

/** A replica that lags does not have the record yet if it was stored after `asOfMs`. */
const notAfter = (record: LogRecord | null, asOfMs: number) => (record && record.storedAtMs > asOfMs ? null : record)
