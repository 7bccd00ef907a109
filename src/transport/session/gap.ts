/** What the device has to be told of an overflowed queue: once for each state of it. PROTOCOL.md section "GAP". */
import type { GapFrame, GapMark } from '../../../protocol/frame-types.js'
import type { QueueEntry } from '../../store/queue.js'

/** `known`: the mark that the device has. The newest record of a queue has its running total. */
export function gapOf(queued: readonly QueueEntry[], known: GapMark | null): (GapFrame & { mark: GapMark }) | null {
  const newest = queued.at(-1)?.record
  if (!newest) return null
  const told = known?.queue === newest.queue ? known.count : 0
  if (newest.dropped <= told) return null
  const mark = { queue: newest.queue, count: newest.dropped }
  return { type: 'GAP', count: newest.dropped - told, reason: 'queue_overflow', mark }
}
