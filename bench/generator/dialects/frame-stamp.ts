/** Reads the NOTIFY frames that a baseline carries inside its own protocol, so that all sides deliver the same bytes. */
import { FrameType } from '../../../protocol/frame.js'
import { nowMicros } from '../../micros.js'
import { microsAt, STAMP_BYTES, sequenceAt } from '../../stamp.js'
import type { DialectHost } from '../dialect.js'

/** Counts a frame: NOTIFY is for one device, NOTIFY_GROUP for all. */
export function tallyFrame(host: DialectHost, bytes: Buffer, start: number, end: number): void {
  const typeAt = start + ((bytes[start] as number) < 128 ? 1 : 2)
  if (bytes[typeAt] === FrameType.NOTIFY_GROUP) {
    const group = groupStamp(bytes, end)
    const nowAt = nowMicros()
    if (group) host.tally.groupMessage(nowAt - microsAt(bytes, group.stampAt), nowAt)
    else host.tally.faults++
    return
  }
  const idAt = typeAt + 2
  const stampAt = end - STAMP_BYTES
  const nowAt = nowMicros()
  const latency = nowAt - microsAt(bytes, stampAt)
  const sequence = sequenceAt(bytes, stampAt)
  host.tally.message(sequence, bytes.readUInt32LE(idAt), bytes.readUInt32LE(idAt + 4), latency, nowAt)
}

const TAG_GROUP_SEQUENCE = 0x10
const TAG_GROUP_REGISTRATIONS = 0x6a

/**
 * The position in the log is the last field of the frame. Before it stand the registrations: a device of bench has one,
 * whose number is one byte. Before them ends the stamp. Null: there is no position.
 */
export function groupStamp(bytes: Uint8Array, end: number): { sequence: number; stampAt: number } | null {
  let varintAt = end - 1
  while (((bytes[varintAt - 1] as number) & 0x80) !== 0) varintAt--
  if (bytes[varintAt - 1] !== TAG_GROUP_SEQUENCE) return null
  let sequence = 0
  for (let i = end - 1; i >= varintAt; i--) sequence = sequence * 128 + ((bytes[i] as number) & 127)
  const tailAt = varintAt - 1
  const isNamed = bytes[tailAt - 3] === TAG_GROUP_REGISTRATIONS && bytes[tailAt - 2] === 1
  return { sequence, stampAt: tailAt - (isNamed ? 3 : 0) - STAMP_BYTES }
}

/** The bytes of a message behind the rest of the previous one. */
export function withTail(tail: Buffer | null, bytes: Buffer, start: number, end: number): Buffer {
  const part = bytes.subarray(start, end)
  return tail === null ? part : Buffer.concat([tail, part])
}
