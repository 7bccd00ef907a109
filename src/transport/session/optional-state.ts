/** What most sessions have nothing of, so that none needs slots for it: made with the first of it. */
import type { GapMark } from '../../../protocol/frame-types.js'

export interface OptionalState {
  /** How far the device knows what was dropped. */
  gap: GapMark | null
  /** From the device to the core, under way. */
  requests: number
  /** A settlement found no room, or had to give it up: its record stays, until it is read and acknowledged again. */
  isUnsettled: boolean
  /** Tick in which an item was first answered WINDOW_FULL; 0: none since the last catch-up. */
  refusedTick: number
}

export const noOptionalState = (gap: GapMark | null): OptionalState => ({
  gap,
  requests: 0,
  isUnsettled: false,
  refusedTick: 0,
})

/** So many ticks after WINDOW_FULL a session stops waiting for the catch-up that should have come, and asks itself. */
const RESUME_TICKS = 15

/** Now and then: whether the queue has to be read although nobody asked for it. */
export function hasToReadAgain(optional: OptionalState, tick: number): boolean {
  const hasWaitedInVain = optional.refusedTick > 0 && tick - optional.refusedTick > RESUME_TICKS
  if (hasWaitedInVain) optional.refusedTick = 0
  return hasWaitedInVain || optional.isUnsettled
}
