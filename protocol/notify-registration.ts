/**
 * The registration number of a NOTIFY frame, read in place. The worker forwards frames without decoding them, and asks for the
 * number only where a registration of the device has ended.
 */
import { FrameType } from './frame.js'

const TAG_ID = 0x09
const ID_BYTES = 8
const TAG_REGISTRATION = 0x10

/** `frame`: as encodeNotifyFrame() writes it, with `id` and `registration` first. 0: a frame of another form. */
export function registrationOfNotify(frame: Uint8Array): number {
  let at = 0
  while ((frame[at] ?? 0) >= 0x80) at++
  at++
  if (frame[at] !== FrameType.NOTIFY || frame[at + 1] !== TAG_ID) return 0
  at += 2 + ID_BYTES
  if (frame[at] !== TAG_REGISTRATION) return 0
  let value = 0
  for (let scale = 1; scale <= 2 ** 28; scale *= 128) {
    const byte = frame[++at] ?? 0
    value += (byte & 0x7f) * scale
    if (byte < 0x80) return value
  }
  return 0
}
