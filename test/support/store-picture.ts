/** The whole content and configuration of JetStream, for a comparison before and after an attack. */
import type { Broker } from '../../src/nats/broker.js'

export interface StreamPicture {
  config: Record<string, unknown>
  firstSequence: number
  /** Each append and each overwritten key raises it. */
  lastSequence: number
  messages: number
  /** The positions of the consumers, by name. */
  consumers: Record<string, { delivered: number; acknowledged: number; pending: number }>
}

export type StorePicture = Record<string, StreamPicture>

interface StreamList {
  total: number
  streams: { config: { name: string }; state: { first_seq: number; last_seq: number; messages: number } }[]
}

interface ConsumerList {
  consumers: {
    name: string
    delivered: { stream_seq: number }
    ack_floor: { stream_seq: number }
    num_ack_pending: number
  }[]
}

/** @param broker the connection of a user with all permissions */
export async function pictureOf(broker: Broker): Promise<StorePicture> {
  const picture: StorePicture = {}
  for (let offset = 0, total = 1; offset < total; ) {
    const page = await api<StreamList>(broker, 'STREAM.LIST', { offset })
    for (const { config, state } of page.streams ?? []) {
      picture[config.name] = {
        config: { ...config },
        firstSequence: state.first_seq,
        lastSequence: state.last_seq,
        messages: state.messages,
        consumers: await consumersOf(broker, config.name),
      }
    }
    total = page.total
    offset += Math.max(1, page.streams?.length ?? 0)
  }
  return picture
}

async function consumersOf(broker: Broker, stream: string): Promise<StreamPicture['consumers']> {
  const { consumers } = await api<ConsumerList>(broker, `CONSUMER.LIST.${stream}`, {})
  return Object.fromEntries(
    (consumers ?? []).map(({ name, delivered, ack_floor, num_ack_pending }) => [
      name,
      { delivered: delivered.stream_seq, acknowledged: ack_floor.stream_seq, pending: num_ack_pending },
    ]),
  )
}

/** One line for each difference, such as `AUDIT: messages 9 -> 0`. */
export function differences(before: StorePicture, after: StorePicture): string[] {
  const lines: string[] = []
  for (const name of new Set([...Object.keys(before), ...Object.keys(after)])) {
    const [was, is] = [before[name], after[name]]
    if (!was || !is) {
      lines.push(`${name}: ${was ? 'is gone' : 'is new'}`)
      continue
    }
    for (const key of ['config', 'firstSequence', 'lastSequence', 'messages', 'consumers'] as const) {
      const [a, b] = [JSON.stringify(was[key]), JSON.stringify(is[key])]
      if (a !== b) lines.push(`${name}: ${key} ${a} -> ${b}`)
    }
  }
  return lines
}

async function api<T>(broker: Broker, verb: string, query: object): Promise<T> {
  const answer = await broker.bus.request(`$JS.API.${verb}`, Buffer.from(JSON.stringify(query)), { timeoutMs: 20_000 })
  return JSON.parse(Buffer.from(answer).toString()) as T
}
