/** Splits the message ids that a turn acknowledges into ACK frames within the server's limits. */
import type { AckFrame } from '../../../protocol/frame-types.js'

/** Upper bound of the bytes of an ACK frame that are not ids. */
const HEAD_BYTES = 8
const ID_BYTES = 8

/** Most ids in one frame. @param frameBytesMax the limit from WELCOME; 0: WELCOME has no limit. */
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
