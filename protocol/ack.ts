/**
 * Decodes the body of ACK, which is on the server's hottest path: reads the two forms that encoders write in place, and
 * leaves every other form to the generated code. A test compares the two ways on the same bytes.
 */
import protobuf from 'protobufjs/minimal.js'
import { FrameType } from './frame.js'
import { borealis } from './generated/frames.js'
import { toBigint } from './int64.js'

const TAG_PACKED = 0x0a
const TAG_UNPACKED = 0x09
const ID_BYTES = 8

/** The bytes before the id in an ACK of one message: length, type, tag, length of the ids. */
const SOLE_HEAD = [3 + ID_BYTES, FrameType.ACK, TAG_PACKED, ID_BYTES] as const

/** Shared by all calls, because a view for each message would cost more than the reading. */
const idBytes = new Uint8Array(ID_BYTES)
const idView = new DataView(idBytes.buffer)

/**
 * The id of a WebSocket message that holds a single ACK of a single message in packed form, as nearly all messages of
 * devices do; null for every other message.
 */
export function soleAckId(message: Uint8Array): bigint | null {
  const [length, type, tag, idsLength] = SOLE_HEAD
  if (message.length !== length + 1 || message[0] !== length) return null
  if (message[1] !== type || message[2] !== tag || message[3] !== idsLength) return null
  for (let i = 0; i < ID_BYTES; i++) idBytes[i] = message[SOLE_HEAD.length + i] as number
  return idView.getBigUint64(0, true)
}

export function decodeAckIds(body: Uint8Array): bigint[] {
  if (body[0] === TAG_PACKED) {
    const start = packedStart(body)
    if (start > 0) return readIds(body, start, ID_BYTES)
  } else if (isUnpacked(body)) {
    return readIds(body, 1, 1 + ID_BYTES)
  }
  return decodeAckIdsGenerated(body)
}

/** The slow way, which is right for every body. */
export function decodeAckIdsGenerated(body: Uint8Array): bigint[] {
  const reader = new protobuf.Reader(body)
  reader.discardUnknown = true
  return borealis.v1.Ack.decode(reader).ids.map(toBigint)
}

/** The offset of the first id, if one packed field fills the whole body; else 0. */
function packedStart(body: Uint8Array): number {
  const first = body[1] ?? 0
  const second = body[2] ?? 0
  const start = first < 128 ? 2 : 3
  const length = first < 128 ? first : (first & 127) | (second << 7)
  if (second >= 128 && start === 3) return 0
  return start + length === body.length && length % ID_BYTES === 0 ? start : 0
}

function isUnpacked(body: Uint8Array): boolean {
  const step = 1 + ID_BYTES
  if (body.length === 0 || body.length % step !== 0) return false
  for (let at = 0; at < body.length; at += step) if (body[at] !== TAG_UNPACKED) return false
  return true
}

function readIds(body: Uint8Array, start: number, step: number): bigint[] {
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength)
  const ids: bigint[] = []
  for (let at = start; at < body.length; at += step) ids.push(view.getBigUint64(at, true))
  return ids
}
