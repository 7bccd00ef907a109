/** Durable consumers on the server: create, count, delete. consumer.ts takes records from them. */

import { BrokerError, type ConsumeOptions } from './broker.js'
import { type Connection, json } from './client/connection.js'
import { isNoConsumer, nanos, parseAnswer } from './client/jetstream-api.js'

/**
 * Creates a durable consumer, or updates one that exists. Fails only if an option cannot be changed.
 *
 * A consumer whose position is beyond the end of its stream is deleted and created again; the function then resolves with
 * true. A full disk or a restored backup can cost a stream its end. The consumer would take the next records, which get
 * the lost sequences, for acknowledged and never deliver them.
 */
export async function ensureDurable(connection: Connection, stream: string, options: ConsumeOptions): Promise<boolean> {
  const { delivered } = await createDurable(connection, stream, options)
  // Read after the consumer, because a consumer is never ahead of the stream at the same moment.
  if (options.startsAt === 'new' || delivered.stream_seq <= (await lastSequenceOf(connection, stream))) return false
  connection.report(
    `consumer ${options.durable} of ${stream}`,
    new Error('the stream lost its end: the consumer is created again'),
  )
  await deleteDurable(connection, stream, options.durable)
  await createDurable(connection, stream, options)
  return true
}

async function createDurable(
  connection: Connection,
  stream: string,
  options: ConsumeOptions,
): Promise<CreatedConsumer> {
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
  const made = await ask<CreatedConsumer>(connection, question, { stream_name: stream, config })
  if (!made) throw new BrokerError('unavailable', `${question}: no answer`)
  return made
}

interface CreatedConsumer {
  delivered: { stream_seq: number }
}

async function lastSequenceOf(connection: Connection, stream: string): Promise<number> {
  const info = await ask<{ state: { last_seq: number } }>(connection, `STREAM.INFO.${stream}`, {})
  if (!info) throw new BrokerError('unavailable', `STREAM.INFO.${stream}: no answer`)
  return info.state.last_seq
}

export async function deleteDurable(connection: Connection, stream: string, durable: string): Promise<void> {
  await ask(connection, `CONSUMER.DELETE.${stream}.${durable}`, {})
}

interface ConsumerInfo {
  num_pending: number
  num_ack_pending: number
}

/** The number of records not acknowledged yet; null if there is no such consumer. */
export async function backlogOf(connection: Connection, stream: string, durable: string): Promise<number | null> {
  const info = await ask<ConsumerInfo>(connection, `CONSUMER.INFO.${stream}.${durable}`, {})
  return info && info.num_pending + info.num_ack_pending
}

async function ask<T extends object>({ link }: Connection, verb: string, query: object): Promise<T | null> {
  const answer = await link.ask(`$JS.API.${verb}`, json(query), link.settings.requestTimeoutMs)
  return parseAnswer<T>(answer.data, verb, isNoConsumer)
}
