/**
 * An ordered tail: an ephemeral push consumer without acknowledgements, whose own counter shows every gap. After a gap,
 * a silence or a reconnect it is made anew from the last record handed over + 1, so that nothing is skipped.
 */
import type { Msg, Subscription as NatsSubscription } from 'nats'
import { BrokerError, type Consumption, type LogRecord, type TailOptions } from './broker.js'
import { ownHeaders, statusOf } from './client/headers.js'
import { EMPTY, nanos, parseAckSubject, parseAnswer } from './client/jetstream-api.js'
import { json, type Shared } from './client/shared.js'
import type { TailHooks } from './table.js'

const HEARTBEAT_MS = 2_000
/** Silent for longer, heartbeats included: the consumer is gone. */
const SILENCE_MS_MAX = 2.5 * HEARTBEAT_MS
const RETRY_MS = 250

export async function startTail(
  shared: Shared,
  stream: string,
  options: TailOptions,
  handler: (record: LogRecord) => void,
  hooks: TailHooks = {},
): Promise<Consumption> {
  const tail = new Tail(shared, stream, options, handler, hooks)
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
    readonly shared: Shared,
    readonly stream: string,
    readonly options: TailOptions,
    readonly handler: (record: LogRecord) => void,
    readonly hooks: TailHooks,
  ) {
    this.#nextSequence = Math.max(1, options.fromSequence)
    this.#watchdog = setInterval(() => this.#checkSilence(), HEARTBEAT_MS / 2).unref()
    this.#status = shared.reconnects.on((status) => {
      if (status === 'reconnected') this.#reset()
      if (status === 'closed') void this.stop()
    })
  }

  /** The first consumer is the caller's business: what is wrong with it is thrown. Later ones are retried for ever. */
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
      this.shared.report(`tail of ${this.stream}`, error)
      this.#retryLater()
    })
  }

  #retryLater(): void {
    if (this.#stopped || this.#retry) return
    this.#retry = setTimeout(() => {
      this.#retry = null
      if (this.shared.link.connected) this.#reset()
      // Else `reconnected` does it.
    }, RETRY_MS).unref()
  }

  /** Forgets the consumer. It would vanish by itself; telling the server only saves it the wait. */
  #drop(): void {
    this.#attempt++
    this.#subscription?.unsubscribe()
    this.#subscription = null
    if (this.#consumer) this.shared.link.publish(`$JS.API.CONSUMER.DELETE.${this.stream}.${this.#consumer}`, EMPTY)
    this.#consumer = ''
  }

  async #create(): Promise<void> {
    const { link } = this.shared
    const attempt = this.#attempt
    // A subject of its own for each consumer: a late message of the one before cannot be mistaken for this one's.
    const inbox = link.newInbox()
    this.#consumerSequence = 0
    this.#caughtUp = false
    this.#lastHeardMs = Date.now()
    this.#subscription = link.nc.subscribe(inbox, {
      callback: (error, message) => {
        if (error) this.shared.report(`tail of ${this.stream}`, error)
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
    this.#lastHeardMs = Date.now()
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
    // Asked to start past its end, the server starts at its end.
    if (info.sequence >= this.#nextSequence) {
      this.#nextSequence = info.sequence + 1
      this.handler({
        subject: message.subject,
        sequence: info.sequence,
        body: message.data,
        storedAtMs: info.storedAtMs,
        headers: ownHeaders(message),
      })
    }
    if (info.pending === 0) this.#nowCaughtUp()
  }

  /** Heartbeats tell how far the consumer is; flow control waits for our word before it sends more. */
  #control(message: Msg): void {
    const { link } = this.shared
    if (message.reply) link.publish(message.reply, EMPTY)
    const stalled = message.headers?.get('Nats-Consumer-Stalled')
    if (stalled) link.publish(stalled, EMPTY)
    const last = message.headers?.get('Nats-Last-Consumer')
    if (!last) return
    if (Number(last) !== this.#consumerSequence) this.#reset()
    else if (!stalled) this.#nowCaughtUp() // it is idle: nothing more was to be sent
  }

  #checkSilence(): void {
    if (!this.shared.link.connected || !this.#subscription) return
    if (Date.now() - this.#lastHeardMs > SILENCE_MS_MAX) this.#reset()
  }

  #nowCaughtUp(): void {
    if (this.#caughtUp) return
    this.#caughtUp = true
    this.hooks.caughtUp?.()
  }
}
