/** The messages that a session has to send before it may go live. */
import type { TxItem } from '../../../protocol/envelope.js'
import type { Cursor } from '../../../protocol/frame-types.js'
import type { QueueEntry } from '../../store/queue.js'

/** A live item that waits for the end of a catch-up. */
export interface HeldItem {
  item: TxItem
  router: string
  /** When its life ends, by the steady clock of this worker. */
  endsSteadyMs: number
}

/** A session has a backlog until it is live. */
export interface Backlog {
  /** A read of QUEUE is under way. */
  isReading: boolean
  /** QUEUE has to be read (again) before the session may go live. */
  isReadDue: boolean
  /**
   * Queued records that were read, oldest first; those from `queuedNext` on are not sent yet. At most one window of
   * them.
   */
  queued: QueueEntry[]
  queuedNext: number
  /**
   * The queue may have more records than `queued`: it was longer, or a read failed. Held items wait for another read.
   */
  isPartial: boolean
  /** Live items that wait; those from `heldNext` on are not sent yet. */
  held: HeldItem[]
  heldNext: number
  /** The groups caught up before the queue did: the cursor of the CAUGHT_UP that the session still has to send. */
  groupCursor: Cursor | null
}

export function newBacklog(): Backlog {
  return {
    isReading: false,
    isReadDue: false,
    queued: [],
    queuedNext: 0,
    isPartial: false,
    held: [],
    heldNext: 0,
    groupCursor: null,
  }
}

/** Removes the held items that were not sent and returns them, oldest first. */
export function takeHeld(backlog: Backlog): HeldItem[] {
  const waiting = backlog.held.slice(backlog.heldNext)
  backlog.held = []
  backlog.heldNext = 0
  return waiting
}
