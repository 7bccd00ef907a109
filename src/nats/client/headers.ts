/**
 * NATS headers, encoded and decoded as bytes. This code runs once for each append and each read; the client's own header
 * objects validate and index fields that no code reads, and take several times as long.
 *
 * headerBlockOf() reads the private memory layout of the client: the header block of a message stands directly before its
 * data in the same buffer. The client offers only decoded objects. If the block is not there, this file uses those
 * objects, so a changed layout costs time and not correctness. package.json pins `nats` to one version for this reason.
 * Do not upgrade it unless test/unit/nats-headers.test.ts passes with the new version.
 */
import type { Msg, MsgHdrs } from 'nats'

const BEGIN = 'NATS/1.0'
const FIRST_LINE_BYTES = Buffer.from(BEGIN)
const END_BYTES = Buffer.from('\r\n\r\n')
/** Offset of the digits in `NATS/1.0 404`. */
const STATUS_AT = BEGIN.length + 1

/** Throws RangeError for a value with a line end. The client only calls encode() on the result. */
export function headersToSend(fields: Record<string, string>): MsgHdrs {
  let text = BEGIN
  for (const key in fields) {
    const value = fields[key] ?? ''
    if (LINE_END.test(value)) throw new RangeError(`header ${key}: a line end in its value`)
    text += `\r\n${key}: ${value}`
  }
  const bytes = Buffer.from(`${text}\r\n\r\n`)
  return { encode: () => bytes } as object as MsgHdrs
}

const LINE_END = /[\r\n]/

/** The status of a headers-only message (100, 404, 408, 409, 503), or 0 for an ordinary one. */
export function statusOf(message: Msg): number {
  if (message.data.length > 0) return 0
  const block = headerBlockOf(message)
  if (!block) return message.headers?.code ?? 0
  if (block[STATUS_AT - 1] !== SPACE) return 0
  return Number.parseInt(block.toString('latin1', STATUS_AT, STATUS_AT + 3), 10) || 0
}

const SPACE = 0x20

/** The headers that the application set, without those that the server and the client add. */
export function applicationHeaders(message: Msg): Record<string, string> | null {
  return applicationHeadersIn(headerText(message))
}

/** The same for a block `NATS/1.0\r\nKey: value\r\n…\r\n\r\n`. If a key repeats, the first value counts. */
export function applicationHeadersIn(block: string): Record<string, string> | null {
  let own: Record<string, string> | null = null
  for (let at = block.indexOf('\r\n') + 2; at > 1; at = block.indexOf('\r\n', at) + 2) {
    if (block.startsWith('Nats-', at)) continue
    const end = block.indexOf('\r\n', at)
    const colon = block.indexOf(':', at)
    if (colon < 0 || end < 0 || colon > end) continue
    own ??= {}
    const key = block.slice(at, colon)
    if (!Object.hasOwn(own, key)) own[key] = block.slice(colon + 1, end).trim()
  }
  return own
}

/** The header block as text; empty if the message has no headers. */
export function headerText(message: Msg): string {
  const block = headerBlockOf(message)
  if (block) return block.toString('utf8')
  const { headers } = message
  if (!headers) return ''
  let text = BEGIN
  for (const [key, values] of headers) for (const value of values) text += `\r\n${key}: ${value}`
  return `${text}\r\n\r\n`
}

/** The first value of `key` in a block; empty if the block does not have the key. */
export function headerValue(block: string, key: string): string {
  const start = block.indexOf(`\r\n${key}:`)
  if (start < 0) return ''
  const from = start + key.length + 3
  return block.slice(from, block.indexOf('\r\n', from)).trim()
}

/** A method that the client's messages have beyond their type: the length of subject, reply, headers and data together. */
type Sized = Msg & { size?: () => number }

/** The bytes of the header block; null if there is no block at its expected place. */
function headerBlockOf(message: Sized): Buffer | null {
  const { data } = message
  const bytes = message.size?.() ?? 0
  const length = bytes - message.subject.length - (message.reply?.length ?? 0) - data.length
  const from = data.byteOffset - length
  if (length < BEGIN.length + END_BYTES.length || from < 0) return null
  const block = Buffer.from(data.buffer, from, length)
  const isWhole =
    FIRST_LINE_BYTES.compare(block, 0, BEGIN.length) === 0 && END_BYTES.compare(block, length - END_BYTES.length) === 0
  return isWhole ? block : null
}
