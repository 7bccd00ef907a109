/**
 * Explains any bytes to people: every byte is in exactly one row. Frames and fault come from the decoder; the rows come
 * from a walk of their own, which goes on where the decoder stops.
 */
import { decodeFrames, type FrameFault, readHead } from './decode.js'
import { explainBody, type Row } from './explain-body.js'
import { DEVICE_FRAME_BYTES_MAX, frameName, SERVER_FRAME_BYTES_MAX, type Sender, senderOfType } from './frame.js'
import type { Frame, UnknownFrame } from './frame-types.js'
import { toHex } from './json-form.js'

export type { Row } from './explain-body.js'

export interface Explanation {
  /** The end that sends such frames: as given, or as the type of the first known frame tells. */
  from: Sender
  rows: Row[]
  frames: (Frame | UnknownFrame)[]
  /** Null: the bytes are whole and allowed frames. */
  fault: FrameFault | null
}

export function explain(bytes: Uint8Array, options: { from?: Sender } = {}): Explanation {
  const from = options.from ?? guessSender(bytes)
  const frameBytesMax = from === 'device' ? DEVICE_FRAME_BYTES_MAX : SERVER_FRAME_BYTES_MAX
  const { frames, fault } = decodeFrames(bytes, { from, frameBytesMax })
  const rows: Row[] = []
  let offset = 0
  while (offset < bytes.length) {
    const head = readHead(bytes, offset, frameBytesMax)
    if ('code' in head) {
      rows.push({ offset, depth: 0, hex: toHex(bytes.subarray(offset)), meaning: `unreadable: ${head.detail}` })
      break
    }
    explainFrame(bytes, offset, head.typeAt, head.end, rows)
    offset = head.end
    if (fault?.offset !== undefined && fault.offset < offset && offset < bytes.length) {
      rows.push({
        offset,
        depth: 0,
        hex: toHex(bytes.subarray(offset)),
        meaning: 'not read, because the frame before is wrong',
      })
      break
    }
  }
  return { from, rows, frames, fault }
}

/** The rows as text: offset, bytes, meaning. Long values are cut; `--json` has them whole. */
export function renderRows(rows: Row[]): string {
  return rows.map(renderRow).join('\n')
}

const HEX_COLUMN = 26
const BYTES_SHOWN = 8

function renderRow({ offset, depth, hex, meaning }: Row): string {
  const pairs = hex.match(/../g) ?? []
  const shown = pairs.length > BYTES_SHOWN ? `${pairs.slice(0, BYTES_SHOWN - 1).join(' ')} ..` : pairs.join(' ')
  return `${offset.toString(16).padStart(4, '0')}  ${shown.padEnd(HEX_COLUMN)}${'  '.repeat(depth)}${meaning}`
}

function explainFrame(bytes: Uint8Array, offset: number, typeAt: number, end: number, rows: Row[]): void {
  const type = bytes[typeAt] ?? 0
  const name = frameName(type)
  const length = end - typeAt
  rows.push({
    offset,
    depth: 0,
    hex: toHex(bytes.subarray(offset, typeAt)),
    meaning: `length: ${length} byte${length === 1 ? '' : 's'} follow${length === 1 ? 's' : ''}`,
  })
  const shown = name ?? `0x${type.toString(16).padStart(2, '0')}, unknown: skipped by its length`
  rows.push({ offset: typeAt, depth: 0, hex: toHex(bytes.subarray(typeAt, typeAt + 1)), meaning: `type ${shown}` })
  if (name !== null) explainBody(bytes, { at: typeAt + 1, end, body: name, depth: 1 }, rows)
  else if (typeAt + 1 < end) {
    rows.push({ offset: typeAt + 1, depth: 1, hex: toHex(bytes.subarray(typeAt + 1, end)), meaning: 'body, skipped' })
  }
}

function guessSender(bytes: Uint8Array): Sender {
  let offset = 0
  while (offset < bytes.length) {
    const head = readHead(bytes, offset, SERVER_FRAME_BYTES_MAX)
    if ('code' in head) break
    const type = bytes[head.typeAt] ?? 0
    if (frameName(type) !== null) return senderOfType(type)
    offset = head.end
  }
  return 'device'
}
