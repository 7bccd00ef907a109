/**
 * Encodes typed frames. Everything has its shortest form, so that equal frames have equal bytes.
 *
 * A value that does not fit its field, or a frame longer than the other end must accept, throws EncodeError. So every
 * frame that this file returns decodes at the other end.
 */
import { encodeBody, encodeGroupBody } from './encode-body.js'
import { EncodeError } from './encode-error.js'
import { DEVICE_FRAME_BYTES_MAX, FrameType, SERVER_FRAME_BYTES_MAX, senderOfType } from './frame.js'
import type { Frame, NotifyFrame, NotifyGroupFrame } from './frame-types.js'
import { varintBytes, writeVarint } from './varint.js'

export { EncodeError } from './encode-error.js'

/** Encodes one whole frame: length, type, body. Throws EncodeError. */
export function encodeFrame(frame: Frame): Uint8Array {
  if (frame.type === 'NOTIFY_GROUP') return encodeNotifyGroupFrame(encodeNotifyGroupBody(frame), frame.sequence)
  if (frame.type === 'PING' || frame.type === 'PONG' || frame.type === 'BYE')
    return assemble(FrameType[frame.type], EMPTY)
  return assemble(FrameType[frame.type], encodeBody(frame))
}

/** Encodes several frames as one WebSocket message. */
export function encodeFrames(frames: Frame[]): Uint8Array {
  return concat(frames.map(encodeFrame))
}

/** Encodes the NOTIFY frame of one target. Accept does this once; all later steps forward the bytes. */
export function encodeNotify(notify: Omit<NotifyFrame, 'type'>): Uint8Array {
  return encodeFrame({ type: 'NOTIFY', ...notify })
}

/**
 * Encodes a NOTIFY_GROUP body for a broadcast record, without `sequence`: the log assigns that when it stores the
 * record.
 */
export function encodeNotifyGroupBody(group: Omit<NotifyGroupFrame, 'type' | 'sequence'>): Uint8Array {
  const body = encodeGroupBody(group)
  if (body.length > GROUP_BODY_BYTES_MAX) throw tooLarge(body.length, GROUP_BODY_BYTES_MAX)
  return body
}

/** Makes a frame of a body of encodeNotifyGroupBody, and appends its position in the log as field 2. */
export function encodeNotifyGroupFrame(body: Uint8Array, sequence: number): Uint8Array {
  if (!Number.isSafeInteger(sequence) || sequence < 0) {
    throw new EncodeError('out_of_range', `sequence ${sequence} is outside 0..2^53-1`)
  }
  if (sequence === 0) return assemble(FrameType.NOTIFY_GROUP, body)
  return assemble(FrameType.NOTIFY_GROUP, body, sequence)
}

const EMPTY = new Uint8Array()
const SEQUENCE_TAG = 0x10
/** Bytes of the tag and of the longest sequence. */
const SEQUENCE_BYTES_MAX = 1 + 8
const GROUP_BODY_BYTES_MAX = SERVER_FRAME_BYTES_MAX - 1 - SEQUENCE_BYTES_MAX

function assemble(type: number, body: Uint8Array, sequence = 0): Uint8Array {
  const tail = sequence > 0 ? 1 + varintBytes(sequence) : 0
  const length = 1 + body.length + tail
  const max = senderOfType(type) === 'device' ? DEVICE_FRAME_BYTES_MAX : SERVER_FRAME_BYTES_MAX
  if (length > max) throw tooLarge(length, max)
  const bytes = new Uint8Array(varintBytes(length) + length)
  let at = writeVarint(bytes, 0, length)
  bytes[at++] = type
  bytes.set(body, at)
  if (sequence > 0) {
    at += body.length
    bytes[at++] = SEQUENCE_TAG
    writeVarint(bytes, at, sequence)
  }
  return bytes
}

function tooLarge(bytes: number, max: number): EncodeError {
  return new EncodeError('frame_too_large', `the frame has ${bytes} bytes, ${max} are allowed`)
}

function concat(parts: Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    whole.set(part, at)
    at += part.length
  }
  return whole
}
