/** ACK frames of the ids of one turn, each within the server's limit. */
import type { AckFrame } from '../../../protocol/frame-types.js'

/** Bytes of an ACK frame beside its ids, at most. */
const HEAD_BYTES = 8
const ID_BYTES = 8

/** How many ids a frame may hold. @param frameBytesMax as WELCOME told; 0: not told. */
export function ackIdsMax(frameBytesMax: number, settingMax: number): number {
  if (frameBytesMax === 0) return settingMax
  return Math.max(Math.min(Math.floor((frameBytesMax - HEAD_BYTES) / ID_BYTES), settingMax), 1)
}

export function ackFrames(ids: readonly bigint[], idsMax: number): AckFrame[] {
  const frames: AckFrame[] = []
  for (let from = 0; from < ids.length; from += idsMax) {
    frames.push({ type: 'ACK', ids: ids.slice(from, from + idsMax) })
  }
  return frames
}
