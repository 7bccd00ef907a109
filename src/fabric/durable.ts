/** Durable consumers as the server keeps them: made, counted, ended. What takes from one is consume.ts. */
import { type ApiError, isNoConsumer, parseAnswer } from './api.js'
import type { ConsumeOptions } from './fabric.js'
import { json, type Shared } from './log.js'

const NANOS_PER_MS = 1_000_000

/** Creating a durable that is there updates what may be updated, and is an error only where it cannot be. */
export async function ensureDurable(shared: Shared, stream: string, options: ConsumeOptions): Promise<void> {
  const { durable, filter, startsAt = 'all', ackWaitMs, pendingMax } = options
  const config = {
    durable_name: durable,
    ...(filter && { filter_subject: filter }),
    deliver_policy: startsAt,
    ack_policy: 'explicit',
    ack_wait: ackWaitMs * NANOS_PER_MS,
    max_ack_pending: pendingMax,
    max_deliver: -1,
    replay_policy: 'instant',
  }
  const question = `CONSUMER.DURABLE.CREATE.${stream}.${durable}`
  await ask<{ error?: ApiError }>(shared, question, { stream_name: stream, config })
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
