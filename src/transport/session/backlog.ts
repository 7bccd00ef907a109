/** What a session has to send before it may go live. */
import type { TxItem } from '../../../protocol/envelope.js'
import type { Cursor } from '../../../protocol/frame-types.js'
import type { QueueEntry } from '../../store/queue.js'

/** A live item that waits for the end of a catch-up. */
export interface Held {
  item: TxItem
  router: string
}

/** Exists only while a session is not live. */
export interface Backlog {
  reading: boolean
  /** QUEUE has to be read (again) before the session may go live. */
  marked: boolean
  /** Read and not sent, oldest first, from `next` on; at most a window of them is kept. */
  queued: QueueEntry[]
  next: number
  /** There was more in the queue than was kept, or a read failed: held items wait for another read. */
  more: boolean
  /** Live items that wait, from `heldNext` on. */
  held: Held[]
  heldNext: number
  /** Groups were done before the session was: the CAUGHT_UP to send. */
  caughtUp: Cursor | null
}

export function newBacklog(): Backlog {
  return { reading: false, marked: false, queued: [], next: 0, more: false, held: [], heldNext: 0, caughtUp: null }
}

/** What is held and was not sent, oldest first; nothing is held afterwards. */
export function takeHeld(backlog: Backlog): Held[] {
  const waiting = backlog.held.slice(backlog.heldNext)
  backlog.held = []
  backlog.heldNext = 0
  return waiting
}
