/**
 * From typed frames to bytes: the shortest form of everything, so that equal frames have equal bytes.
 *
 * What does not fit its field, or makes a frame longer than the other end must take, is refused with an EncodeError: a
 * frame that left this file decodes at the other end.
 */
import { encodeBody, encodeGroupBody } from './encode-body.js'
import { EncodeError } from './encode-error.js'
import { DEVICE_FRAME_BYTES_MAX, FrameType, SERVER_FRAME_BYTES_MAX, senderOfType } from './frame.js'
import type { Frame, NotifyFrame, NotifyGroupFrame } from './frame-types.js'
import { varintBytes, writeVarint } from './varint.js'

export { EncodeError } from './encode-error.js'

/** One whole frame: length, type, body. Throws EncodeError. */
export function encodeFrame(frame: Frame): Uint8Array {
  if (frame.type === 'NOTIFY_GROUP') return encodeNotifyGroupFrame(encodeNotifyGroupBody(frame), frame.sequence)
  if (frame.type === 'PING' || frame.type === 'PONG' || frame.type === 'BYE')
    return assemble(FrameType[frame.type], EMPTY)
  return assemble(FrameType[frame.type], encodeBody(frame))
}

/** Several frames as one WebSocket message. */
export function encodeFrames(frames: Frame[]): Uint8Array {
  return concat(frames.map(encodeFrame))
}

/** The NOTIFY frame of one target, made once by accept and forwarded undecoded from there on. */
export function encodeNotify(notify: Omit<NotifyFrame, 'type'>): Uint8Array {
  return encodeFrame({ type: 'NOTIFY', ...notify })
}

/** The body of NOTIFY_GROUP without its `sequence`, which the log gives later: what a broadcast record holds. */
export function encodeNotifyGroupBody(group: Omit<NotifyGroupFrame, 'type' | 'sequence'>): Uint8Array {
  const body = encodeGroupBody(group)
  if (body.length > GROUP_BODY_BYTES_MAX) throw tooLarge(body.length, GROUP_BODY_BYTES_MAX)
  return body
}

/** Frames a body of encodeNotifyGroupBody, with its position in the log appended as field 2. */
export function encodeNotifyGroupFrame(body: Uint8Array, sequence: number): Uint8Array {
  if (!Number.isSafeInteger(sequence) || sequence < 0) {
    throw new EncodeError('out_of_range', `sequence ${sequence} is not 0..2^53-1`)
  }
  if (sequence === 0) return assemble(FrameType.NOTIFY_GROUP, body)
  return assemble(FrameType.NOTIFY_GROUP, body, sequence)
}

const EMPTY = new Uint8Array()
const SEQUENCE_TAG = 0x10
/** Tag and longest varint of a sequence. */
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
  return new EncodeError('frame_too_large', `${bytes} bytes, ${max} are allowed`)
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
