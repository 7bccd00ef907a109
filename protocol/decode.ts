/**
 * Decodes the bytes of one WebSocket message into typed frames. PROTOCOL.md, sections "Frames" and "Limits".
 *
 * Any bytes give frames, or a fault that names the close code; nothing is thrown. A declared length is compared with
 * the limit and with the bytes that are left before anything is read or allocated for it.
 */
import { decodeBody } from './decode-body.js'
import { frameName, LENGTH_PREFIX_BYTES_MAX, type Sender, senderOfType } from './frame.js'
import type { FramesFrom, UnknownFrame } from './frame-types.js'

/** Names of close codes (close-codes.ts). */
export type FaultCode = 'protocol_error' | 'frame_too_large' | 'unexpected_frame'

/** The reason why the rest of a message is not read. The receiver sends ERROR with this code, then closes with it. */
export interface FrameFault {
  code: FaultCode
  /** Offset of the wrong frame in the message. */
  offset: number
  /** For people; contains no bytes of the peer. */
  detail: string
}

export interface DecodeOptions<F extends Sender> {
  /** The end that sent the bytes. */
  from: F
  /** Longest frame (type and body) to accept. */
  frameBytesMax: number
}

export interface Decoded<T> {
  /** The frames before the fault, or all of them. */
  frames: T[]
  fault: FrameFault | null
}

/**
 * All frames of one message. An empty message is a fault here; callers that allow one for keepalive handle it first.
 */
export function decodeFrames<F extends Sender>(
  bytes: Uint8Array,
  options: DecodeOptions<F>,
): Decoded<FramesFrom[F] | UnknownFrame> {
  const frames: (FramesFrom[F] | UnknownFrame)[] = []
  const fault = readFrames(bytes, options, (frame) => frames.push(frame))
  return { frames, fault }
}

/**
 * Calls `onFrame` for each frame of one message, in order, without making a list. If it returns false, the rest is not
 * read. Exceptions of `onFrame` pass through. Frames own their bytes: the caller may reuse `bytes` afterwards.
 */
export function readFrames<F extends Sender>(
  bytes: Uint8Array,
  options: DecodeOptions<F>,
  onFrame: (frame: FramesFrom[F] | UnknownFrame) => unknown,
): FrameFault | null {
  if (bytes.length === 0) return fault('protocol_error', 0, 'the message has no frame')
  let offset = 0
  while (offset < bytes.length) {
    const head = readHead(bytes, offset, options.frameBytesMax)
    if ('code' in head) return head
    const frame = readFrame(bytes, offset, head, options.from)
    if ('offset' in frame) return frame
    if (onFrame(frame) === false) return null
    offset = head.end
  }
  return null
}

/** The offset of a frame's type byte, and the offset after the frame. */
export interface FrameHead {
  typeAt: number
  end: number
}

/** Reads and checks the length prefix. */
export function readHead(bytes: Uint8Array, offset: number, frameBytesMax: number): FrameHead | FrameFault {
  let length = 0
  let at = offset
  for (;;) {
    const byte = bytes[at]
    if (byte === undefined) return fault('protocol_error', offset, 'the message ends inside a length')
    length += (byte & 127) * 2 ** (7 * (at - offset))
    at++
    if (byte < 128) {
      if (byte === 0 && at - offset > 1) return fault('protocol_error', offset, 'a length is not in its shortest form')
      break
    }
    if (at - offset === LENGTH_PREFIX_BYTES_MAX) {
      return fault('frame_too_large', offset, `a length has more than ${LENGTH_PREFIX_BYTES_MAX} bytes`)
    }
  }
  if (length === 0) return fault('protocol_error', offset, 'a length is 0, so the frame has no type')
  if (length > frameBytesMax) {
    return fault('frame_too_large', offset, `a frame has ${length} bytes, ${frameBytesMax} are allowed`)
  }
  if (at + length > bytes.length) {
    return fault(
      'protocol_error',
      offset,
      `a frame has ${length} bytes, but the message ends after ${bytes.length - at}`,
    )
  }
  return { typeAt: at, end: at + length }
}

function readFrame<F extends Sender>(
  bytes: Uint8Array,
  offset: number,
  head: FrameHead,
  from: F,
): FramesFrom[F] | UnknownFrame | FrameFault {
  const type = bytes[head.typeAt] ?? 0
  const name = frameName(type)
  if (name === null) return { type: 'UNKNOWN', code: type, bodyBytes: head.end - head.typeAt - 1 }
  if (senderOfType(type) !== from) return fault('unexpected_frame', offset, `a ${from} may not send ${name}`)
  try {
    // The cast is safe: the check above has shown that frames of this name come from `from`.
    return decodeBody(name, bytes.subarray(head.typeAt + 1, head.end)) as FramesFrom[F]
  } catch (error) {
    const why = error instanceof Error ? error.message : 'unreadable'
    return fault('protocol_error', offset, `the body of ${name}: ${why}`)
  }
}

function fault(code: FaultCode, offset: number, detail: string): FrameFault {
  return { code, offset, detail }
}
