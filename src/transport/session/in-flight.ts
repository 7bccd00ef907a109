/**
 * What was sent to one device and not acknowledged, in the order in which it was sent. A list and not a Map: mostly it
 * holds one message, at most a window of them, and the oldest is acknowledged first; a Map hashes its bigints anew each time.
 */
import type { QueueRef } from './queue-ref.js'

export interface InFlight {
  readonly id: bigint
  /** Empty: it was only sent from the queued queue. */
  router: string
  /** Records of this message in the queued queue; a message can stand there more than once. */
  queued: QueueRef[] | null
}

export function findInFlight(list: readonly InFlight[] | null, id: bigint): InFlight | null {
  if (list === null) return null
  for (let i = 0; i < list.length; i++) {
    const entry = list[i] as InFlight
    if (entry.id === id) return entry
  }
  return null
}

/** Takes it out of the list; null where it is not there. */
export function takeInFlight(list: InFlight[] | null, id: bigint): InFlight | null {
  if (list === null) return null
  for (let i = 0; i < list.length; i++) {
    const entry = list[i] as InFlight
    if (entry.id !== id) continue
    if (i === list.length - 1) list.pop()
    else if (i === 0) list.shift()
    else list.splice(i, 1)
    return entry
  }
  return null
}
