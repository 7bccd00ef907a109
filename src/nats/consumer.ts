/**
 * A durable pull consumer with explicit acknowledgements. It creates the consumer on the server, creates it again when
 * it is lost, and pulls records in batches.
 */
import type { Msg, Subscription as NatsSubscription } from 'nats'
import type { ConsumeOptions, Consumption, Delivery, Log } from './broker.js'
import { type Connection, json } from './client/connection.js'
import { applicationHeaders, statusOf } from './client/headers.js'
import { type DeliveryInfo, nanos, parseAckSubject } from './client/jetstream-api.js'
import { deleteDurable, ensureDurable } from './durable.js'
import { Sweeper } from './sweeper.js'

const HEARTBEAT_MS = 2_000
const SILENCE_MS_MAX = 2.5 * HEARTBEAT_MS
const PULL_EXPIRES_MS = 30_000
const RETRY_MS = 250
/** Records in one pull. The next pull leaves when half of them have come, so that the server always has a pull to serve. */
const BATCH_MAX = 512
const ACK = Buffer.from('+ACK')
const WORKING = Buffer.from('+WPI')

export async function startConsume(
  connection: Connection,
  log: Pick<Log, 'name' | 'next' | 'delete'>,
  options: ConsumeOptions,
  handler: (delivery: Delivery) => void,
): Promise<Consumption> {
  const consumer = new PullConsumer(connection, log, options, handler)
  await consumer.start()
  return consumer
}

class PullConsumer implements Consumption {
  readonly stream: string
  readonly #batch: number
  #subscription: NatsSubscription | null = null
  /** Records that were requested and have not come yet. */
  #requested = 0
  #lastHeardMs = 0
  #stopped = false
  #preparing = false
  #retry: NodeJS.Timeout | null = null
  /** The last record that this object delivered. */
  #furthest: StreamPosition = START
  /** The last record delivered before the latest reconnect. A replaced server has other records at these sequences. */
  #earlier: StreamPosition = START
  #origin: Epoch = { isOver: false }
  readonly #sweeper: Sweeper
  readonly #watchdog: NodeJS.Timeout
  readonly #status: { unsubscribe(): void }

  constructor(
    readonly connection: Connection,
    log: Pick<Log, 'name' | 'next' | 'delete'>,
    readonly options: ConsumeOptions,
    readonly handler: (delivery: Delivery) => void,
  ) {
    this.stream = log.name
    this.#sweeper = new Sweeper(connection, log, options, {
      isReused: (record) => this.#isReused(record),
      onReused: () => this.#recreate(),
    })
    this.#batch = Math.max(1, Math.min(BATCH_MAX, options.pendingMax))
    this.#watchdog = setInterval(() => this.#checkSilence(), HEARTBEAT_MS / 2).unref()
    this.#status = connection.status.on((status) => {
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
    this.#earlier = this.#furthest
    if (await ensureDurable(this.connection, this.stream, this.options)) this.#startEpoch()
  }

  /** True if a stream that lost its end has assigned this sequence to a second record. */
  #isReused({ sequence, storedAtMs }: StreamPosition): boolean {
    return sequence <= this.#earlier.sequence && storedAtMs > this.#earlier.storedAtMs
  }

  /**
   * Starts a new epoch. An acknowledgement names only a sequence: a late one from before the stream lost its end would
   * acknowledge another record now.
   */
  #startEpoch(): void {
    this.#origin.isOver = true
    this.#origin = { isOver: false }
    this.#furthest = this.#earlier = START
  }

  /** The stream lost its end and has since grown beyond it, so ensureDurable() could not notice the loss. */
  #recreate(): void {
    const { durable } = this.options
    this.connection.report(
      `consumer ${durable} of ${this.stream}`,
      new Error('the stream assigns its sequences a second time'),
    )
    deleteDurable(this.connection, this.stream, durable)
      .catch((error: unknown) => this.connection.report(`consumer ${durable} of ${this.stream}`, error))
      .finally(() => this.#retryLater())
  }

  /** A reconnect loses the pulls, and perhaps the consumer: creates both again, and retries until that succeeds. */
  #restart(): void {
    if (this.#stopped || this.#preparing) return
    this.#preparing = true
    this.#ensure()
      .then(() => this.#open())
      .then(() => this.#sweeper.sweepTwice())
      .catch((error: unknown) => {
        this.connection.report(`consumer ${this.options.durable} of ${this.stream}`, error)
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
      if (this.connection.link.connected) this.#restart()
      // Without a connection, the `reconnected` event restarts it.
    }, RETRY_MS).unref()
  }

  /** Uses a new inbox for each start. Records of earlier pulls go to the old inbox, time out and are delivered again. */
  #open(): void {
    if (this.#stopped) return
    const { link } = this.connection
    this.#subscription?.unsubscribe()
    const inbox = link.newInbox()
    this.#requested = 0
    this.#lastHeardMs = performance.now()
    const subscription = link.nc.subscribe(inbox, {
      callback: (error, message) => {
        if (error) this.connection.report(`consumer ${this.options.durable} of ${this.stream}`, error)
        else if (this.#subscription === subscription) this.#receive(message)
      },
    })
    this.#subscription = subscription
    this.#pull(inbox)
  }

  #pull(inbox: string): void {
    const count = this.#batch - this.#requested
    if (count < Math.max(1, this.#batch / 2)) return
    this.#requested += count
    const query = {
      batch: count,
      expires: nanos(PULL_EXPIRES_MS),
      idle_heartbeat: nanos(HEARTBEAT_MS),
    }
    this.connection.link.publish(`$JS.API.CONSUMER.MSG.NEXT.${this.stream}.${this.options.durable}`, json(query), inbox)
  }

  #receive(message: Msg): void {
    this.#lastHeardMs = performance.now()
    const inbox = this.#subscription?.getSubject() ?? ''
    const status = statusOf(message)
    if (status === 0) this.#deliver(message)
    else if (status !== 100) this.#pullEnded(status, message)
    if (!this.#stopped) this.#pull(inbox)
  }

  #deliver(message: Msg): void {
    this.#requested = Math.max(0, this.#requested - 1)
    const info = parseAckSubject(message.reply ?? '')
    const { sequence, storedAtMs } = info
    // Another process recreated the consumer after the stream lost its end.
    if (this.#isReused(info)) this.#startEpoch()
    if (sequence > this.#furthest.sequence) this.#furthest = { sequence, storedAtMs }
    this.handler(new NatsDelivery(message, info, this.connection, this.#origin))
  }

  /** A pull ended early. Status 408: the pull expired, and a header counts the records that did not come. */
  #pullEnded(status: number, message: Msg): void {
    const undelivered = message.headers?.get('Nats-Pending-Messages')
    this.#requested = undelivered ? Math.max(0, this.#requested - Number(undelivered)) : 0
    if (status !== 408) {
      // The consumer was deleted, its leader moved, or no server serves it. No pull leaves until the restart.
      this.#requested = this.#batch
      this.#retryLater()
    }
  }

  #checkSilence(): void {
    if (!this.connection.link.connected || !this.#subscription || this.#retry) return
    if (performance.now() - this.#lastHeardMs > SILENCE_MS_MAX) this.#restart()
  }
}

interface StreamPosition {
  sequence: number
  storedAtMs: number
}

const START: StreamPosition = { sequence: 0, storedAtMs: 0 }

/** The time between two losses of a stream's end. Within one epoch, a sequence stands for one record. */
interface Epoch {
  /** True once the stream assigns the sequences of this epoch a second time. */
  isOver: boolean
}

class NatsDelivery implements Delivery {
  readonly subject: string
  readonly body: Uint8Array
  readonly sequence: number
  readonly storedAtMs: number
  readonly deliveryCount: number
  readonly #message: Msg
  readonly #connection: Connection
  readonly #origin: Epoch

  constructor(message: Msg, info: DeliveryInfo, connection: Connection, origin: Epoch) {
    this.subject = message.subject
    this.body = message.data
    this.sequence = info.sequence
    this.storedAtMs = info.storedAtMs
    this.deliveryCount = info.deliveryCount
    this.#message = message
    this.#connection = connection
    this.#origin = origin
  }

  /** Parsed on demand, because most readers need only the body. */
  get headers(): Record<string, string> | null {
    return applicationHeaders(this.#message)
  }

  ack(): void {
    this.#answer(ACK)
  }

  nack(delayMs: number): void {
    this.#answer(Buffer.from(`-NAK {"delay":${Math.round(nanos(delayMs))}}`))
  }

  working(): void {
    this.#answer(WORKING)
  }

  #answer(body: Uint8Array): void {
    if (this.#origin.isOver) return
    this.#connection.link.publish(this.#message.reply ?? '', body)
  }
}
