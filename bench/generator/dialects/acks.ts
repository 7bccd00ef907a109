/** Encodes an ACK of our protocol together with its WebSocket header. By hand, because there is one for each delivery. */
import { FrameType } from '../../../protocol/frame.js'
import { Opcode, writeHeader } from '../websocket.js'

/** With this limit every length fits into one byte. */
export const ACK_IDS_MAX = 12

const WEBSOCKET_HEADER = 6
const FRAME_HEADER = 4
const TAG_IDS = 0x0a

/** @param halves low and high 32 bits of each id, one after the other; the first `count` ids are used. */
export function ackMessage(halves: readonly number[], count: number): Buffer {
  const idBytes = 8 * count
  const bytes = Buffer.allocUnsafe(WEBSOCKET_HEADER + FRAME_HEADER + idBytes)
  let at = writeHeader(bytes, Opcode.BINARY, FRAME_HEADER + idBytes)
  bytes[at++] = FRAME_HEADER - 1 + idBytes
  bytes[at++] = FrameType.ACK
  bytes[at++] = TAG_IDS
  bytes[at++] = idBytes
  for (let i = 0; i < 2 * count; i++) at = bytes.writeUInt32LE(halves[i] as number, at)
  return bytes
}
