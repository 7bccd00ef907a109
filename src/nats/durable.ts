/** Durable consumers as the server keeps them: made, counted, ended. What takes from one is consume.ts. */

import { BrokerError, type ConsumeOptions } from './broker.js'
import { isNoConsumer, nanos, parseAnswer } from './client/jetstream-api.js'
import { json, type Shared } from './client/shared.js'

/**
 * Creating a durable that is there updates what may be updated, and is an error only where it cannot be.
 *
 * One that is further than its stream is made anew. A nats-server whose disk was full, or a backup, can bring a stream back
 * without its end; what is stored then has sequences that the consumer takes for acknowledged, and delivers to nobody.
 * True where it was so.
 */
export async function ensureDurable(shared: Shared, stream: string, options: ConsumeOptions): Promise<boolean> {
  const { delivered } = await createDurable(shared, stream, options)
  // Looked at after the consumer: none is ahead of what its stream had before.
  if (options.startsAt === 'new' || delivered.stream_seq <= (await lastSequenceOf(shared, stream))) return false
  shared.report(
    `consumer ${options.durable} of ${stream}`,
    new Error('the stream lost its end: the consumer begins anew'),
  )
  await forgetDurable(shared, stream, options.durable)
  await createDurable(shared, stream, options)
  return true
}

async function createDurable(shared: Shared, stream: string, options: ConsumeOptions): Promise<MadeConsumer> {
  const { durable, filter, startsAt = 'all', ackWaitMs, pendingMax } = options
  const config = {
    durable_name: durable,
    ...(filter && { filter_subject: filter }),
    deliver_policy: startsAt,
    ack_policy: 'explicit',
    ack_wait: nanos(ackWaitMs),
    max_ack_pending: pendingMax,
    max_deliver: -1,
    replay_policy: 'instant',
  }
  const question = `CONSUMER.DURABLE.CREATE.${stream}.${durable}`
  const made = await ask<MadeConsumer>(shared, question, { stream_name: stream, config })
  if (!made) throw new BrokerError('unavailable', `${question}: no answer`)
  return made
}

interface MadeConsumer {
  delivered: { stream_seq: number }
}

async function lastSequenceOf(shared: Shared, stream: string): Promise<number> {
  const info = await ask<{ state: { last_seq: number } }>(shared, `STREAM.INFO.${stream}`, {})
  if (!info) throw new BrokerError('unavailable', `STREAM.INFO.${stream}: no answer`)
  return info.state.last_seq
}

export async function forgetDurable(shared: Shared, stream: string, durable: string): Promise<void> {
  await ask(shared, `CONSUMER.DELETE.${stream}.${durable}`, {})
}

interface ConsumerInfo {
  num_pending: number
  num_ack_pending: number
}

/** Null where there is no such consumer. */
export async function waitingOf(shared: Shared, stream: string, durable: string): Promise<number | null> {
  const info = await ask<ConsumerInfo>(shared, `CONSUMER.INFO.${stream}.${durable}`, {})
  return info && info.num_pending + info.num_ack_pending
}

async function ask<T extends object>({ link }: Shared, verb: string, query: object): Promise<T | null> {
  const answer = await link.ask(`$JS.API.${verb}`, json(query), link.settings.requestTimeoutMs)
  return parseAnswer<T>(answer.data, verb, isNoConsumer)
}
