/**
 * An ordered tail: an ephemeral push consumer without acknowledgements. The consumer numbers its deliveries, so a gap is
 * visible. After a gap, a silence or a reconnect, the tail creates a new consumer after the last delivered record, so
 * that it skips nothing.
 */
import type { Msg, Subscription as NatsSubscription } from 'nats'
import { BrokerError, type Consumption, type Log, type LogRecord, type TailOptions } from './broker.js'
import { type Connection, json } from './client/connection.js'
import { applicationHeaders, statusOf } from './client/headers.js'
import { EMPTY, nanos, parseAckSubject, parseAnswer } from './client/jetstream-api.js'
import { startReadingTail } from './reading-tail.js'
import type { TailHooks } from './table.js'

const HEARTBEAT_MS = 2_000
/** After a longer silence, without even a heartbeat, the consumer is lost. */
const SILENCE_MS_MAX = 2.5 * HEARTBEAT_MS
const RETRY_MS = 250

/**
 * Tails a log in the way that this connection may. Rejects with BrokerError `unavailable` if it may create no consumer and
 * `options` has no filter.
 */
export async function startTail(
  connection: Connection,
  log: Log,
  options: TailOptions,
  handler: (record: LogRecord) => void,
  hooks: TailHooks = {},
): Promise<Consumption> {
  if (!connection.mayCreateConsumers) {
    const { filter } = options
    if (filter === undefined)
      throw new BrokerError('unavailable', `tail of ${log.name}: without consumers it needs a filter`)
    return startReadingTail(connection, log, { ...options, filter }, handler, hooks)
  }
  const tail = new Tail(connection, log.name, options, handler, hooks)
  await tail.start()
  return tail
}

class Tail implements Consumption {
  #nextSequence: number
  #consumerSequence = 0
  #consumer = ''
  #subscription: NatsSubscription | null = null
  #lastHeardMs = 0
  #stopped = false
  #caughtUp = false
  #attempt = 0
  #retry: NodeJS.Timeout | null = null
  readonly #watchdog: NodeJS.Timeout
  readonly #status: { unsubscribe(): void }

  constructor(
    readonly connection: Connection,
    readonly stream: string,
    readonly options: TailOptions,
    readonly handler: (record: LogRecord) => void,
    readonly hooks: TailHooks,
  ) {
    this.#nextSequence = Math.max(1, options.fromSequence)
    this.#watchdog = setInterval(() => this.#checkSilence(), HEARTBEAT_MS / 2).unref()
    this.#status = connection.status.on((status) => {
      if (status === 'reconnected') this.#reset()
      if (status === 'closed') void this.stop()
    })
  }

  /** Creates the first consumer, and throws if that fails. The tail retries to create later ones without limit. */
  async start(): Promise<void> {
    try {
      await this.#create()
    } catch (error) {
      await this.stop()
      throw error
    }
  }

  async stop(): Promise<void> {
    if (this.#stopped) return
    this.#stopped = true
    clearInterval(this.#watchdog)
    if (this.#retry) clearTimeout(this.#retry)
    this.#status.unsubscribe()
    this.#drop()
  }

  #reset(): void {
    if (this.#stopped) return
    this.#drop()
    if (this.hooks.restartAt) this.#nextSequence = this.hooks.restartAt()
    this.#create().catch((error: unknown) => {
      this.connection.report(`tail of ${this.stream}`, error)
      this.#retryLater()
    })
  }

  #retryLater(): void {
    if (this.#stopped || this.#retry) return
    this.#retry = setTimeout(() => {
      this.#retry = null
      if (this.connection.link.connected) this.#reset()
      // Without a connection, the `reconnected` event resets it.
    }, RETRY_MS).unref()
  }

  /** Drops the consumer. The server would remove it after a while; the message only makes that sooner. */
  #drop(): void {
    this.#attempt++
    this.#subscription?.unsubscribe()
    this.#subscription = null
    if (this.#consumer) this.connection.link.publish(`$JS.API.CONSUMER.DELETE.${this.stream}.${this.#consumer}`, EMPTY)
    this.#consumer = ''
  }

  async #create(): Promise<void> {
    const { link } = this.connection
    const attempt = this.#attempt
    // Each consumer has its own subject, so that a late message of the previous consumer cannot be mistaken for one of its.
    const inbox = link.newInbox()
    this.#consumerSequence = 0
    this.#caughtUp = false
    this.#lastHeardMs = performance.now()
    this.#subscription = link.nc.subscribe(inbox, {
      callback: (error, message) => {
        if (error) this.connection.report(`tail of ${this.stream}`, error)
        else if (attempt === this.#attempt) this.#receive(message)
      },
    })
    const answer = await link.ask(
      `$JS.API.CONSUMER.CREATE.${this.stream}`,
      json({ stream_name: this.stream, config: this.#config(inbox) }),
      link.settings.requestTimeoutMs,
    )
    const made = parseAnswer<{ name: string; num_pending: number }>(answer.data, `tail of ${this.stream}`)
    if (!made) throw new BrokerError('unavailable', `tail of ${this.stream}: no consumer`)
    if (attempt !== this.#attempt || this.#stopped) {
      link.publish(`$JS.API.CONSUMER.DELETE.${this.stream}.${made.name}`, EMPTY)
      return
    }
    this.#consumer = made.name
    if (made.num_pending === 0 && this.#consumerSequence === 0) this.#nowCaughtUp()
  }

  #config(inbox: string): object {
    return {
      deliver_subject: inbox,
      deliver_policy: 'by_start_sequence',
      opt_start_seq: this.#nextSequence,
      ...(this.options.filter && { filter_subject: this.options.filter }),
      ack_policy: 'none',
      max_deliver: 1,
      flow_control: true,
      idle_heartbeat: nanos(HEARTBEAT_MS),
      inactive_threshold: nanos(10 * HEARTBEAT_MS),
      num_replicas: 1,
      mem_storage: true,
    }
  }

  #receive(message: Msg): void {
    this.#lastHeardMs = performance.now()
    if (statusOf(message) === 100) {
      this.#control(message)
      return
    }
    const info = parseAckSubject(message.reply ?? '')
    if (info.consumerSequence !== this.#consumerSequence + 1) {
      this.#reset()
      return
    }
    this.#consumerSequence = info.consumerSequence
    // If the start is beyond the end of the stream, the server starts at the end.
    if (info.sequence >= this.#nextSequence) {
      this.#nextSequence = info.sequence + 1
      this.handler({
        subject: message.subject,
        sequence: info.sequence,
        body: message.data,
        storedAtMs: info.storedAtMs,
        headers: applicationHeaders(message),
      })
    }
    if (info.pending === 0) this.#nowCaughtUp()
  }

  /** Heartbeats say how far the consumer is. After a flow control message, the server waits for an answer. */
  #control(message: Msg): void {
    const { link } = this.connection
    if (message.reply) link.publish(message.reply, EMPTY)
    const stalled = message.headers?.get('Nats-Consumer-Stalled')
    if (stalled) link.publish(stalled, EMPTY)
    const last = message.headers?.get('Nats-Last-Consumer')
    if (!last) return
    if (Number(last) !== this.#consumerSequence) this.#reset()
    else if (!stalled) this.#nowCaughtUp() // the consumer is idle, so it has delivered everything
  }

  #checkSilence(): void {
    if (!this.connection.link.connected || !this.#subscription) return
    if (performance.now() - this.#lastHeardMs > SILENCE_MS_MAX) this.#reset()
  }

  #nowCaughtUp(): void {
    if (this.#caughtUp) return
    this.#caughtUp = true
    this.hooks.caughtUp?.()
  }
}
