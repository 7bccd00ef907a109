/** The interface and the NATS side that the baseline servers share. */
import { connect } from 'nats'
import { Answers } from './answers.js'
import { BROADCAST_SUBJECT, FEED_SUBJECT, readFeed } from './feed.js'

export interface Listen {
  port: number
  /** Null: this server gets no messages to deliver. */
  natsUrl: string | null
  /** Whether all connections subscribe to one topic. */
  topic: boolean
}

export interface BaselineMethods extends Record<string, (argument: never) => unknown> {
  listen(options: Listen): Promise<void>
  /** Starts the numbers of connections from 0 again. */
  forget(): void
}

export interface Deliver {
  one(connection: number, frame: Buffer): void
  all(frame: Uint8Array): void
}

/** Delivers the messages that come over NATS. The result takes the answers of the devices. */
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

/** Offset of the id in an ACK of one id. In front of it are the frame's length, its type, a tag and the byte count. */
export const ACK_ID_AT = 4
