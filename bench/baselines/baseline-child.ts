/** What the servers of baselines have in common as child processes. */
import { connect } from 'nats'
import { Answers } from './answers.js'
import { BROADCAST_SUBJECT, FEED_SUBJECT, readFeed } from './feed.js'

export interface Listen {
  port: number
  /** Null: no messages are fed. */
  natsUrl: string | null
  /** All connections subscribe to one topic. */
  topic: boolean
}

export interface BaselineMethods extends Record<string, (argument: never) => unknown> {
  listen(options: Listen): Promise<void>
  /** Connections are numbered from 0 again. */
  forget(): void
}

export interface Deliver {
  one(connection: number, frame: Buffer): void
  all(frame: Uint8Array): void
}

/** Takes messages from NATS; what devices answer goes back through the result. */
export async function feedFrom(natsUrl: string, deliver: Deliver): Promise<Answers> {
  const nats = await connect({ servers: natsUrl, noAsyncTraces: true })
  nats.subscribe(FEED_SUBJECT, {
    callback: (error, { data }) => {
      if (error) throw error
      readFeed(Buffer.from(data.buffer, data.byteOffset, data.length), deliver.one)
    },
  })
  nats.subscribe(BROADCAST_SUBJECT, {
    callback: (error, { data }) => {
      if (error) throw error
      deliver.all(data)
    },
  })
  await nats.flush()
  return new Answers(nats)
}

/** In an ACK of one id: length, type, tag, bytes. */
export const ACK_ID_AT = 4
