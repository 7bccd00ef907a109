/**
 * State that most sessions never need. A session creates it on first use, so that idle sessions have no slots for it.
 */
import type { GapMark } from '../../../protocol/frame-types.js'

export interface OptionalState {
  /** The last GAP that the device knows. */
  gap: GapMark | null
  /** Requests of the device that the core has not answered. */
  requests: number
  /**
   * The worker does not remember an acknowledgement of this device, because there was no room for its settlement. The
   * queued record is still there: the session has to read it, send it and get it acknowledged again.
   */
  isUnsettled: boolean
  /** The tick of the first report WINDOW_FULL since the last catch-up; 0: there was none. */
  refusedTick: number
}

export const newOptionalState = (gap: GapMark | null): OptionalState => ({
  gap,
  requests: 0,
  isUnsettled: false,
  refusedTick: 0,
})

/** Ticks after which a session that reported WINDOW_FULL reads QUEUE although no router asked for the catch-up. */
const RESUME_TICKS = 15

/** For the periodic sweep: true if the session has to read QUEUE although no router asked for it. */
export function hasToReadAgain(optional: OptionalState, tick: number): boolean {
  const hasWaitedInVain = optional.refusedTick > 0 && tick - optional.refusedTick > RESUME_TICKS
  if (hasWaitedInVain) optional.refusedTick = 0
  return hasWaitedInVain || optional.isUnsettled
}
