/**
 * Encodes typed frames. Everything has its shortest form, so that equal frames have equal bytes.
 *
 * A value that does not fit its field, or a frame longer than the other end must accept, throws EncodeError. So every
 * frame that this file returns decodes at the other end.
 */
import { encodeBody, encodeGroupBody, type GroupBody } from './encode-body.js'
import { EncodeError } from './encode-error.js'
import { DEVICE_FRAME_BYTES_MAX, FrameType, SERVER_FRAME_BYTES_MAX, senderOfType } from './frame.js'
import type { Frame, NotifyFrame } from './frame-types.js'
import { varintBytes, writeVarint } from './varint.js'

export { EncodeError } from './encode-error.js'

/** Encodes one whole frame: length, type, body. Throws EncodeError. */
export function encodeFrame(frame: Frame): Uint8Array {
  if (frame.type === 'NOTIFY_GROUP') {
    return encodeNotifyGroupFrame(encodeNotifyGroupBody(frame), frame.sequence, frame.registrations)
  }
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

/** Encodes the part of a group message that stands in its broadcast record. */
export function encodeNotifyGroupBody(group: GroupBody): Uint8Array {
  const body = encodeGroupBody(group)
  if (body.length > GROUP_BODY_BYTES_MAX) throw tooLarge(body.length, GROUP_BODY_BYTES_MAX)
  return body
}

/**
 * Makes a frame of a body of encodeNotifyGroupBody, and appends what a worker knows: the registrations of the devices that
 * get this frame (at most GROUP_REGISTRATIONS_MAX), and the position in the log.
 */
export function encodeNotifyGroupFrame(
  body: Uint8Array,
  sequence: number,
  registrations: readonly number[] = [],
): Uint8Array {
  if (!Number.isSafeInteger(sequence) || sequence < 0) {
    throw new EncodeError('out_of_range', `sequence ${sequence} is outside 0..2^53-1`)
  }
  return assemble(FrameType.NOTIFY_GROUP, body, groupTail(sequence, registrations))
}

const EMPTY = new Uint8Array()
/** Most registrations that a group frame names. */
export const GROUP_REGISTRATIONS_MAX = 64
const REGISTRATIONS_TAG = 0x6a
const SEQUENCE_TAG = 0x10
const UINT32_BYTES_MAX = 5
/** Bytes of the registrations with their tag and length, and of the tag and the longest sequence. */
const GROUP_TAIL_BYTES_MAX = 1 + 2 + GROUP_REGISTRATIONS_MAX * UINT32_BYTES_MAX + 1 + 8
const GROUP_BODY_BYTES_MAX = SERVER_FRAME_BYTES_MAX - 1 - GROUP_TAIL_BYTES_MAX

function groupTail(sequence: number, registrations: readonly number[]): Uint8Array {
  if (registrations.length > GROUP_REGISTRATIONS_MAX) {
    throw new EncodeError('out_of_range', `${registrations.length} registrations, at most ${GROUP_REGISTRATIONS_MAX}`)
  }
  let packed = 0
  for (const number of registrations) {
    if (!Number.isInteger(number) || number < 0 || number > 0xffff_ffff) {
      throw new EncodeError('out_of_range', `registration ${number} is outside 0..2^32-1`)
    }
    packed += varintBytes(number)
  }
  const named = packed > 0 ? 1 + varintBytes(packed) + packed : 0
  const tail = new Uint8Array(named + (sequence > 0 ? 1 + varintBytes(sequence) : 0))
  let at = 0
  if (packed > 0) {
    tail[at++] = REGISTRATIONS_TAG
    at = writeVarint(tail, at, packed)
    for (const number of registrations) at = writeVarint(tail, at, number)
  }
  if (sequence > 0) {
    tail[at++] = SEQUENCE_TAG
    writeVarint(tail, at, sequence)
  }
  return tail
}

function assemble(type: number, body: Uint8Array, tail: Uint8Array = EMPTY): Uint8Array {
  const length = 1 + body.length + tail.length
  const max = senderOfType(type) === 'device' ? DEVICE_FRAME_BYTES_MAX : SERVER_FRAME_BYTES_MAX
  if (length > max) throw tooLarge(length, max)
  const bytes = new Uint8Array(varintBytes(length) + length)
  const at = writeVarint(bytes, 0, length)
  bytes[at] = type
  bytes.set(body, at + 1)
  bytes.set(tail, at + 1 + body.length)
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
