/** A durable pull consumer with explicit acknowledgement: made idempotently, made again when lost, pulled in batches. */
import type { Msg, Subscription as NatsSubscription } from 'nats'
import type { ConsumeOptions, Consumption, Delivery, Log } from './broker.js'
import { ownHeaders, statusOf } from './client/headers.js'
import { type DeliveryInfo, nanos, parseAckSubject } from './client/jetstream-api.js'
import { json, type Shared } from './client/shared.js'
import { ensureDurable, forgetDurable } from './durable.js'
import { Sweeper } from './sweeper.js'

const HEARTBEAT_MS = 2_000
const SILENCE_MS_MAX = 2.5 * HEARTBEAT_MS
const PULL_EXPIRES_MS = 30_000
const RETRY_MS = 250
/** Records asked for at once. The next pull goes out when half have come, so that the server never waits for us. */
const BATCH_MAX = 512
const ACK = Buffer.from('+ACK')
const WORKING = Buffer.from('+WPI')

export async function startConsume(
  shared: Shared,
  log: Pick<Log, 'name' | 'next' | 'delete'>,
  options: ConsumeOptions,
  handler: (delivery: Delivery) => void,
): Promise<Consumption> {
  const consumer = new PullConsumer(shared, log, options, handler)
  await consumer.start()
  return consumer
}

class PullConsumer implements Consumption {
  readonly stream: string
  readonly #batch: number
  #subscription: NatsSubscription | null = null
  /** Records that were pulled and did not come yet. */
  #wanted = 0
  #lastHeardMs = 0
  #stopped = false
  #preparing = false
  #retry: NodeJS.Timeout | null = null
  /** Of what was delivered here. */
  #furthest: StreamPosition = START
  /** The same, of earlier connections: a server that is another one has other records there. */
  #before: StreamPosition = START
  #origin: Origin = { isOver: false }
  readonly #sweeper: Sweeper
  readonly #watchdog: NodeJS.Timeout
  readonly #status: { unsubscribe(): void }

  constructor(
    readonly shared: Shared,
    log: Pick<Log, 'name' | 'next' | 'delete'>,
    readonly options: ConsumeOptions,
    readonly handler: (delivery: Delivery) => void,
  ) {
    this.stream = log.name
    this.#sweeper = new Sweeper(shared, log, options, {
      isOf: (record) => this.#isReused(record),
      found: () => this.#beginAnew(),
    })
    this.#batch = Math.max(1, Math.min(BATCH_MAX, options.pendingMax))
    this.#watchdog = setInterval(() => this.#checkSilence(), HEARTBEAT_MS / 2).unref()
    this.#status = shared.reconnects.on((status) => {
      if (status === 'reconnected') this.#restart()
      if (status === 'closed') void this.stop()
    })
  }

  async start(): Promise<void> {
    try {
      await this.#ensure()
    } catch (error) {
      await this.stop()
      throw error
    }
    this.#open()
    await this.#sweeper.sweepTwice()
  }

  async stop(): Promise<void> {
    if (this.#stopped) return
    this.#stopped = true
    clearInterval(this.#watchdog)
    this.#sweeper.stop()
    if (this.#retry) clearTimeout(this.#retry)
    this.#status.unsubscribe()
    this.#subscription?.unsubscribe()
  }

  async #ensure(): Promise<void> {
    this.#before = this.#furthest
    if (await ensureDurable(this.shared, this.stream, this.options)) this.#forgetBefore()
  }

  /** A sequence that was another record's before: a stream that lost its end gives them again. */
  #isReused({ sequence, storedAtMs }: StreamPosition): boolean {
    return sequence <= this.#before.sequence && storedAtMs > this.#before.storedAtMs
  }

  /** An acknowledgement names a sequence: said of the stream as it was, it would now be of another record. */
  #forgetBefore(): void {
    this.#origin.isOver = true
    this.#origin = { isOver: false }
    this.#furthest = this.#before = START
  }

  /** ensureDurable() came too late to see it: the stream lost its end, and has grown beyond where it was. */
  #beginAnew(): void {
    const { durable } = this.options
    this.shared.report(
      `consumer ${durable} of ${this.stream}`,
      new Error('the stream gives its sequences a second time'),
    )
    forgetDurable(this.shared, this.stream, durable)
      .catch((error: unknown) => this.shared.report(`consumer ${durable} of ${this.stream}`, error))
      .finally(() => this.#retryLater())
  }

  /** The pulls are lost, perhaps the consumer too: both again, until it works. */
  #restart(): void {
    if (this.#stopped || this.#preparing) return
    this.#preparing = true
    this.#ensure()
      .then(() => this.#open())
      .then(() => this.#sweeper.sweepTwice())
      .catch((error: unknown) => {
        this.shared.report(`consumer ${this.options.durable} of ${this.stream}`, error)
        this.#retryLater()
      })
      .finally(() => {
        this.#preparing = false
      })
  }

  #retryLater(): void {
    if (this.#stopped || this.#retry) return
    this.#retry = setTimeout(() => {
      this.#retry = null
      if (this.shared.link.connected) this.#restart()
      // Else `reconnected` does it.
    }, RETRY_MS).unref()
  }

  /** A new inbox for each start: what belongs to pulls before it is not heard, and so is delivered again. */
  #open(): void {
    if (this.#stopped) return
    const { link } = this.shared
    this.#subscription?.unsubscribe()
    const inbox = link.newInbox()
    this.#wanted = 0
    this.#lastHeardMs = Date.now()
    const subscription = link.nc.subscribe(inbox, {
      callback: (error, message) => {
        if (error) this.shared.report(`consumer ${this.options.durable} of ${this.stream}`, error)
        else if (this.#subscription === subscription) this.#receive(message)
      },
    })
    this.#subscription = subscription
    this.#pull(inbox)
  }

  #pull(inbox: string): void {
    const count = this.#batch - this.#wanted
    if (count < Math.max(1, this.#batch / 2)) return
    this.#wanted += count
    const query = {
      batch: count,
      expires: nanos(PULL_EXPIRES_MS),
      idle_heartbeat: nanos(HEARTBEAT_MS),
    }
    this.shared.link.publish(`$JS.API.CONSUMER.MSG.NEXT.${this.stream}.${this.options.durable}`, json(query), inbox)
  }

  #receive(message: Msg): void {
    this.#lastHeardMs = Date.now()
    const inbox = this.#subscription?.getSubject() ?? ''
    const status = statusOf(message)
    if (status === 0) this.#deliver(message)
    else if (status !== 100) this.#ended(status, message)
    if (!this.#stopped) this.#pull(inbox)
  }

  #deliver(message: Msg): void {
    this.#wanted = Math.max(0, this.#wanted - 1)
    const info = parseAckSubject(message.reply ?? '')
    const { sequence, storedAtMs } = info
    // Another process made the consumer anew.
    if (this.#isReused(info)) this.#forgetBefore()
    if (sequence > this.#furthest.sequence) this.#furthest = { sequence, storedAtMs }
    this.handler(new NatsDelivery(message, info, this.shared, this.#origin))
  }

  /** A pull ended early. 408: it expired, with so many records not come. Anything else: ask again from the start. */
  #ended(status: number, message: Msg): void {
    const left = message.headers?.get('Nats-Pending-Messages')
    this.#wanted = left ? Math.max(0, this.#wanted - Number(left)) : 0
    if (status !== 408) {
      // The consumer was deleted, its leader moved, or nobody serves it now.
      this.#wanted = this.#batch // no pull until it was looked after
      this.#retryLater()
    }
  }

  #checkSilence(): void {
    if (!this.shared.link.connected || !this.#subscription || this.#retry) return
    if (Date.now() - this.#lastHeardMs > SILENCE_MS_MAX) this.#restart()
  }
}

interface StreamPosition {
  sequence: number
  storedAtMs: number
}

const START: StreamPosition = { sequence: 0, storedAtMs: 0 }

/** The stream that a delivery came from, as far as its sequences go. */
interface Origin {
  /** They are given again. */
  isOver: boolean
}

class NatsDelivery implements Delivery {
  readonly subject: string
  readonly body: Uint8Array
  readonly sequence: number
  readonly storedAtMs: number
  readonly deliveryCount: number
  readonly #message: Msg
  readonly #shared: Shared
  readonly #origin: Origin

  constructor(message: Msg, info: DeliveryInfo, shared: Shared, origin: Origin) {
    this.subject = message.subject
    this.body = message.data
    this.sequence = info.sequence
    this.storedAtMs = info.storedAtMs
    this.deliveryCount = info.deliveryCount
    this.#message = message
    this.#shared = shared
    this.#origin = origin
  }

  /** Parsed only when asked: most readers want the body alone. */
  get headers(): Record<string, string> | null {
    return ownHeaders(this.#message)
  }

  ack(): void {
    this.#answer(ACK)
  }

  nak(delayMs: number): void {
    this.#answer(Buffer.from(`-NAK {"delay":${Math.round(nanos(delayMs))}}`))
  }

  working(): void {
    this.#answer(WORKING)
  }

  #answer(body: Uint8Array): void {
    if (this.#origin.isOver) return
    this.#shared.link.publish(this.#message.reply ?? '', body)
  }
}
