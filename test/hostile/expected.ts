/** The close code that PROTOCOL.md requires after a message; the hostile run compares it with the real one. */
import { Close, closeName } from '../../protocol/close-codes.js'
import { readFrames } from '../../protocol/decode.js'
import { DEVICE_FRAME_BYTES_MAX } from '../../protocol/frame.js'
import type { DeviceFrame, UnknownFrame } from '../../protocol/frame-types.js'
import { refusalOfHello } from '../../protocol/hello.js'
import { WireLimits } from '../../protocol/limits.js'

/** Stands for a connection that ended without a close frame. */
export const CUT = 1006

/** The WebSocket layer cuts a connection with a longer message; see PROTOCOL.md "Frames". */
const LIBRARY_BYTES_MAX = 32 * 1024

/** True for the close codes of PROTOCOL.md. 1006 is no such code; a plan must expect it explicitly. */
export const isDocumented = (code: number) => closeName(code) !== null

/** The code for a connection without a session and without a valid credential; null if the connection stays open. */
export function endOfGreeting(message: Uint8Array): number | null {
  return endOf(message, (frame) => {
    if (frame.type !== 'HELLO') return Close.unexpected_frame.code
    const refusal = refusalOfHello(frame)
    if (refusal) return Close[refusal].code
    return frame.credential?.kind === 'ticket' ? Close.bad_ticket.code : Close.bad_token.code
  })
}

/** The code for a connection after WELCOME; null if the connection stays open. */
export function endOfSession(message: Uint8Array): number | null {
  // An empty message is a keepalive.
  if (message.length === 0) return null
  return endOf(message, (frame) => {
    if (frame.type === 'HELLO') return Close.unexpected_frame.code
    return frame.type === 'BYE' ? Close.bye.code : null
  })
}

function endOf(message: Uint8Array, codeOf: (frame: DeviceFrame) => number | null): number | null {
  if (message.length > LIBRARY_BYTES_MAX) return CUT
  if (message.length > WireLimits.DEVICE_MESSAGE_BYTES_MAX.value) return Close.frame_too_large.code
  let code: number | null = null
  const take = (frame: DeviceFrame | UnknownFrame) => {
    if (frame.type !== 'UNKNOWN') code ??= codeOf(frame)
    return code === null
  }
  const fault = readFrames(message, { from: 'device', frameBytesMax: DEVICE_FRAME_BYTES_MAX }, take)
  return code ?? (fault ? Close[fault.code].code : null)
}

/** The number of protocol frames in a message, at least one, for the counters of the run. */
export function framesIn(message: Uint8Array): number {
  let frames = 0
  readFrames(message, { from: 'device', frameBytesMax: DEVICE_FRAME_BYTES_MAX }, () => {
    frames++
  })
  return Math.max(1, frames)
}
