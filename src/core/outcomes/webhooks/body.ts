import type { Delivery } from '../../../nats/broker.js'

const HEAD = Buffer.from('{"v":1,"events":[')
const COMMA = Buffer.from(',')
const TAIL = Buffer.from(']}')

/** `{"v": 1, "events": [...]}`, of events as they are stored: nothing is decoded. */
export function bodyOf(batch: readonly Pick<Delivery, 'body'>[]): Uint8Array {
  const parts: Uint8Array[] = [HEAD]
  for (const [index, { body }] of batch.entries()) parts.push(...(index === 0 ? [body] : [COMMA, body]))
  return Buffer.concat([...parts, TAIL])
}
