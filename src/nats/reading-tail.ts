/**
 * A tail without a consumer, for users that may not create one: a consumer delivers stored records to any subject that its
 * creator names, past all permissions (ADR 28).
 *
 * The tail hears each record when it is published, which says that there is something to read, and reads the records from
 * the stream in the order of their sequences. A record that was published and not heard is found by a read every
 * POLL_MS.
 */
import type { Subscription as NatsSubscription } from 'nats'
import type { Consumption, Log, LogRecord, TailOptions } from './broker.js'
import type { Connection } from './client/connection.js'
import type { TailHooks } from './table.js'

const POLL_MS = 2_000
/** A record that was heard and cannot be read after this time was refused by the stream. */
const STORED_MS_MAX = 1_000
const RETRY_MS_MAX = 50
const RETRY_AFTER_ERROR_MS = 250
/** Most reads at the same time. */
const READS_MAX = 64

export async function startReadingTail(
  connection: Connection,
  log: Pick<Log, 'name' | 'at' | 'next'>,
  options: TailOptions & { filter: string },
  handler: (record: LogRecord) => void,
  hooks: TailHooks = {},
): Promise<Consumption> {
  const tail = new ReadingTail(connection, log, options, handler, hooks)
  await tail.start()
  return tail
}

class ReadingTail implements Consumption {
  #nextSequence: number
  /** Records that were heard and are not read yet. A lower bound: records are heard at most once. */
  #heard = 0
  #lastHeardMs = 0
  #isReading = false
  #isAwaited = false
  #caughtUp = false
  #stopped = false
  /** Rises at each reset: a read that began before it is void. */
  #attempt = 0
  #retryMs = 0
  #retry: NodeJS.Timeout | null = null
  /** The beginning of all subjects that the filter selects; null if they differ further on. */
  readonly #prefix: string | null
  readonly #subscription: NatsSubscription
  readonly #poll: NodeJS.Timeout
  readonly #status: { unsubscribe(): void }

  constructor(
    readonly connection: Connection,
    readonly log: Pick<Log, 'name' | 'at' | 'next'>,
    readonly options: TailOptions & { filter: string },
    readonly handler: (record: LogRecord) => void,
    readonly hooks: TailHooks,
  ) {
    const { filter } = options
    this.#nextSequence = Math.max(1, options.fromSequence)
    this.#prefix = filter.endsWith('.>') && !filter.includes('*') ? filter.slice(0, -1) : null
    this.#subscription = connection.link.nc.subscribe(filter, {
      callback: (error) => {
        if (error) connection.report(`tail of ${log.name}`, error)
        else this.#hear()
      },
    })
    this.#poll = setInterval(() => this.#read(), POLL_MS).unref()
    this.#status = connection.status.on((status) => {
      if (status === 'reconnected') this.#reset()
      if (status === 'closed') void this.stop()
    })
  }

  /** Reads what there is, and throws if the first read fails. Later reads are repeated without limit. */
  async start(): Promise<void> {
    try {
      this.#take(await this.#next())
    } catch (error) {
      await this.stop()
      throw error
    }
    this.#read()
  }

  async stop(): Promise<void> {
    if (this.#stopped) return
    this.#stopped = true
    this.#attempt++
    clearInterval(this.#poll)
    if (this.#retry) clearTimeout(this.#retry)
    this.#status.unsubscribe()
    this.#subscription.unsubscribe()
  }

  #reset(): void {
    if (this.#stopped) return
    this.#attempt++
    this.#isReading = false
    this.#heard = 0
    this.#caughtUp = false
    if (this.hooks.restartAt) this.#nextSequence = this.hooks.restartAt()
    this.#read()
  }

  #hear(): void {
    this.#heard++
    this.#lastHeardMs = performance.now()
    this.#retryMs = 0
    this.#read()
  }

  /** Reads to the end of the stream. Never rejects. */
  #read(): void {
    if (this.#stopped || !this.connection.link.connected) return
    if (this.#isReading) {
      this.#isAwaited = true
      return
    }
    if (this.#retry) clearTimeout(this.#retry)
    this.#retry = null
    this.#isReading = true
    this.#isAwaited = false
    const attempt = this.#attempt
    void this.#readToEnd(attempt).then(
      () => this.#finished(attempt),
      (error: unknown) => {
        if (attempt !== this.#attempt) return
        this.#isReading = false
        // Without a connection, the `reconnected` event reads again.
        if (this.connection.link.connected) this.connection.report(`tail of ${this.log.name}`, error)
        this.#readAfter(RETRY_AFTER_ERROR_MS)
      },
    )
  }

  async #readToEnd(attempt: number): Promise<void> {
    for (;;) {
      if (this.#caughtUp && this.#prefix !== null) await this.#readAhead(attempt, this.#prefix)
      const record = await this.#next()
      if (attempt !== this.#attempt || record === null) return
      this.#take(record)
    }
  }

  /** A replica that lags must not end a watch before its last record: a revoked device could connect. */
  #next(): Promise<LogRecord | null> {
    return this.log.next(this.options.filter, this.#nextSequence, { authoritative: true })
  }

  /** Reads the records that were heard by their sequences, side by side, up to a sequence that has none (yet). */
  async #readAhead(attempt: number, prefix: string): Promise<void> {
    while (this.#heard > 1) {
      const first = this.#nextSequence
      const count = Math.min(this.#heard, READS_MAX)
      const records = await Promise.all(Array.from({ length: count }, (_, i) => this.log.at(first + i)))
      for (const record of records) {
        if (attempt !== this.#attempt || record === null) return
        if (record.subject.startsWith(prefix)) this.#take(record)
        else this.#nextSequence = record.sequence + 1
      }
    }
  }

  #take(record: LogRecord | null): void {
    if (this.#stopped || record === null) return
    this.#nextSequence = record.sequence + 1
    this.#retryMs = 0
    // What is read before the end was reached for the first time may be older than what was heard.
    if (this.#caughtUp && this.#heard > 0) this.#heard--
    this.handler(record)
  }

  #finished(attempt: number): void {
    if (attempt !== this.#attempt) return
    this.#isReading = false
    if (!this.#caughtUp) {
      this.#caughtUp = true
      this.hooks.caughtUp?.()
    }
    if (this.#isAwaited) this.#read()
    else if (this.#heard > 0) {
      // nats-server passes a message on before it stores it.
      this.#retryMs = Math.min(RETRY_MS_MAX, Math.max(1, this.#retryMs * 2))
      if (performance.now() - this.#lastHeardMs < STORED_MS_MAX) this.#readAfter(this.#retryMs)
      else this.#heard = 0
    }
  }

  #readAfter(ms: number): void {
    if (this.#stopped || this.#retry) return
    this.#retry = setTimeout(() => {
      this.#retry = null
      this.#read()
    }, ms).unref()
  }
}
