/**
 * Stands in for the router in front of a baseline server. It sends the same frames in batches of the same size as the
 * router sends to a worker, over a nats-server of its own.
 */
import { connect, type NatsConnection } from 'nats'
import { NotifyFrames } from '../content.js'
import type { Feed } from '../drive.js'
import type { Bench } from '../scenario.js'
import { ANSWERS_SUBJECT, encodeFeed, FEED_SUBJECT, type FeedItem, ID_BYTES } from './feed.js'

const BATCH_MAX = 256

export class BareFeed implements Feed {
  answered = 0
  readonly #frames = new NotifyFrames(1, Math.floor(Date.now() / 1000) + 600)
  #items: FeedItem[] = []
  #nextId = 1n

  private constructor(private readonly nats: NatsConnection) {
    nats.subscribe(ANSWERS_SUBJECT, {
      callback: (error, message) => {
        if (error) throw error
        this.answered += message.data.length / ID_BYTES
      },
    })
  }

  static async open(bench: Bench, natsUrl: string): Promise<BareFeed> {
    const nats = await connect({ servers: natsUrl, noAsyncTraces: true })
    bench.defer(() => nats.close())
    return new BareFeed(nats)
  }

  send(index: number, sequence: number, intendedMicros: number): void {
    this.#items.push({ connection: index, frame: this.#frames.make(this.#nextId++, sequence, intendedMicros) })
    if (this.#items.length >= BATCH_MAX) this.flush()
  }

  flush(): void {
    if (this.#items.length === 0) return
    this.nats.publish(FEED_SUBJECT, encodeFeed(this.#items))
    this.#items = []
  }
}
