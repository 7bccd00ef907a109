/**
 * NATS headers as bytes, both ways: once for each append and each read. The client's own objects check and index what
 * nobody asks for, which takes several times as long.
 *
 * Of an answer only the client's objects are public, but its header block stands before its data, in the same memory: we
 * look there, and ask the client where it is not.
 */
import type { Msg, MsgHdrs } from 'nats'

const BEGIN = 'NATS/1.0'
const BEGIN_BYTES = Buffer.from(BEGIN)
const END_BYTES = Buffer.from('\r\n\r\n')
/** `NATS/1.0 404` */
const STATUS_AT = BEGIN.length + 1

/** Throws RangeError for a value that would end its line. All that the client does with it is to encode it. */
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
  const block = blockOf(message)
  if (!block) return message.headers?.code ?? 0
  if (block[STATUS_AT - 1] !== SPACE) return 0
  return Number.parseInt(block.toString('latin1', STATUS_AT, STATUS_AT + 3), 10) || 0
}

const SPACE = 0x20

/** The application's own headers: what the server and the client add for themselves is left out. */
export function ownHeaders(message: Msg): Record<string, string> | null {
  return ownIn(textOfHeaders(message))
}

/** The same of a block `NATS/1.0\r\nKey: value\r\n…\r\n\r\n`. Of a key that comes again, the first counts. */
export function ownIn(block: string): Record<string, string> | null {
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

/** Empty: the message has none. */
export function textOfHeaders(message: Msg): string {
  const block = blockOf(message)
  if (block) return block.toString('utf8')
  const { headers } = message
  if (!headers) return ''
  let text = BEGIN
  for (const [key, values] of headers) for (const value of values) text += `\r\n${key}: ${value}`
  return `${text}\r\n\r\n`
}

/** The first value of `key` in a block, empty where it is not there. */
export function valueIn(block: string, key: string): string {
  const start = block.indexOf(`\r\n${key}:`)
  if (start < 0) return ''
  const from = start + key.length + 3
  return block.slice(from, block.indexOf('\r\n', from)).trim()
}

/** What the client's messages have beyond their type: the bytes of subject, reply, headers and data together. */
type Sized = Msg & { size?: () => number }

/** Null: not found where it should stand; there may be none. */
function blockOf(message: Sized): Buffer | null {
  const { data } = message
  const bytes = message.size?.() ?? 0
  const length = bytes - message.subject.length - (message.reply?.length ?? 0) - data.length
  const from = data.byteOffset - length
  if (length < BEGIN.length + END_BYTES.length || from < 0) return null
  const block = Buffer.from(data.buffer, from, length)
  const isWhole =
    BEGIN_BYTES.compare(block, 0, BEGIN.length) === 0 && END_BYTES.compare(block, length - END_BYTES.length) === 0
  return isWhole ? block : null
}
