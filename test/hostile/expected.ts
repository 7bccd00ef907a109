/** What PROTOCOL.md says that a server answers to a message, as a close code. */
import { Close, closeName } from '../../protocol/close-codes.js'
import { readFrames } from '../../protocol/decode.js'
import { DEVICE_FRAME_BYTES_MAX } from '../../protocol/frame.js'
import type { DeviceFrame, UnknownFrame } from '../../protocol/frame-types.js'
import { refusalOfHello } from '../../protocol/hello.js'
import { WireLimits } from '../../protocol/limits.js'

/** Not a code but its absence: the connection ended without a close frame. */
export const CUT = 1006

/** Beyond, the WebSocket layer cuts; see PROTOCOL.md "Frames". */
const LIBRARY_BYTES_MAX = 32 * 1024

/** Every code that the document has. 1006 is there too, but has to be expected where it comes. */
export const isDocumented = (code: number) => closeName(code) !== null

/** For a connection that has no HELLO yet and shows no good credential; null: it goes on. */
export function endOfGreeting(message: Uint8Array): number | null {
  return endOf(message, (frame) => {
    if (frame.type !== 'HELLO') return Close.unexpected_frame.code
    const refusal = refusalOfHello(frame)
    if (refusal) return Close[refusal].code
    return frame.credential?.kind === 'ticket' ? Close.bad_ticket.code : Close.bad_token.code
  })
}

/** For a connection after WELCOME. */
export function endOfSession(message: Uint8Array): number | null {
  // Keepalive; it counts as a frame.
  if (message.length === 0) return null
  return endOf(message, (frame) => {
    if (frame.type === 'HELLO') return Close.unexpected_frame.code
    return frame.type === 'BYE' ? Close.bye.code : null
  })
}

function endOf(message: Uint8Array, judge: (frame: DeviceFrame) => number | null): number | null {
  if (message.length > LIBRARY_BYTES_MAX) return CUT
  if (message.length > WireLimits.DEVICE_MESSAGE_BYTES_MAX.value) return Close.frame_too_large.code
  let code: number | null = null
  const take = (frame: DeviceFrame | UnknownFrame) => {
    if (frame.type !== 'UNKNOWN') code ??= judge(frame)
    return code === null
  }
  const fault = readFrames(message, { from: 'device', frameBytesMax: DEVICE_FRAME_BYTES_MAX }, take)
  return code ?? (fault ? Close[fault.code].code : null)
}

/** How many protocol frames a message has, at least one: what a run counts. */
export function framesIn(message: Uint8Array): number {
  let frames = 0
  readFrames(message, { from: 'device', frameBytesMax: DEVICE_FRAME_BYTES_MAX }, () => {
    frames++
  })
  return Math.max(1, frames)
}
