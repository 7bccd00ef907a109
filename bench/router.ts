/** Stands in for the router, for workers without a core: sends batches to `tx`, and counts the reports from `rx`. */
import { decodeRxBatch, encodeTxBatch, Report, type ReportCode, type TxItem } from '../protocol/envelope.js'
import { MessageIdSource, partitionOf } from '../protocol/message-id.js'
import { rxSubject, txSubject } from '../protocol/subjects.js'
import type { Broker, Bus, Subscription } from '../src/nats/broker.js'
import { NotifyFrames } from './content.js'
import type { Feed } from './drive.js'
import { deviceOf } from './generator/identity.js'
import { type Location, REGISTRATION } from './system/fleet.js'

/** The batch size of the product's router. */
const BATCH_MAX = 256
const LIFETIME_MS = 600_000
const NODE = 255

export class BenchRouter implements Feed {
  /** How often each report came. */
  readonly reports: Record<keyof typeof Report, number> = {
    ACKED: 0,
    NOT_HERE: 0,
    WINDOW_FULL: 0,
    CLOSED: 0,
    EXPIRED: 0,
    ENDED: 0,
  }
  /** Number of batches that no worker received. */
  unserved = 0
  answered = 0
  sent = 0
  readonly #bus: Bus
  readonly #name: string
  readonly #ids = new MessageIdSource(NODE, () => Date.now())
  readonly #frames: NotifyFrames
  readonly #expiresAtMs = Date.now() + LIFETIME_MS
  readonly #pending = new Map<string, TxItem[]>()
  readonly #subscription: Subscription

  constructor(
    broker: Broker,
    private readonly run: string,
    private readonly locations: readonly (Location | undefined)[],
  ) {
    this.#bus = broker.bus
    this.#name = `bench-${run}`
    this.#frames = new NotifyFrames(REGISTRATION, Math.floor(this.#expiresAtMs / 1000))
    this.#subscription = this.#bus.subscribe(rxSubject(this.#name), (message) => {
      if (message.noResponders) this.unserved++
      else for (const { report } of decodeRxBatch(message.body).items) this.#count(report)
    })
  }

  /** Size of one NOTIFY frame. */
  get frameBytes(): number {
    return this.#frames.bytes
  }

  send(index: number, sequence: number, intendedMicros: number): void {
    const location = this.locations[index]
    if (!location) throw new RangeError(`device ${index} has no session`)
    this.sent++
    const device = deviceOf(this.run, index)
    const id = this.#ids.next(partitionOf(device))
    const subject = txSubject(location.instance, location.worker)
    const frame = this.#frames.make(id, sequence, intendedMicros)
    const item = { id, device, expiresAtMs: this.#expiresAtMs, frame }
    const items = this.#pending.get(subject)
    if (!items) this.#pending.set(subject, [item])
    else if (items.push(item) >= BATCH_MAX) this.#publish(subject, items)
  }

  flush(): void {
    for (const [subject, items] of this.#pending) if (items.length > 0) this.#publish(subject, items)
  }

  stop(): void {
    this.#subscription.unsubscribe()
  }

  #publish(subject: string, items: TxItem[]): void {
    this.#bus.publish(subject, encodeTxBatch({ router: this.#name, atMs: Date.now(), items }), {
      reply: rxSubject(this.#name),
    })
    items.length = 0
  }

  #count(report: ReportCode): void {
    this.answered++
    const name = NAMES[report]
    if (name) this.reports[name]++
  }
}

const NAMES = Object.keys(Report) as (keyof typeof Report)[]
