/**
 * The messages that were sent to one device and are not acknowledged, in the order in which they were sent.
 *
 * They are kept in an array and not in a Map. The array mostly holds one message and never more than a window, and a
 * device acknowledges the oldest message first; a Map would compute the hash of the bigint id for each access.
 */
import type { StoredMessage } from '../../../protocol/envelope.js'
import type { QueueEntry } from '../../store/queue.js'

export interface InFlightMessage {
  readonly id: bigint
  /** The router that waits for a report; empty if the message came from the queue only. */
  router: string
  /** The records of this message in QUEUE; the queue can hold a message more than once. */
  queued: QueueRef[] | null
}

/** The part of a queued record that its settlement needs. */
export interface QueueRef {
  message: Pick<StoredMessage, 'id' | 'project' | 'application'>
  sequence: number
}

export function queueRefOf({ sequence, record }: QueueEntry): QueueRef {
  const { id, project, application } = record.message
  return { message: { id, project, application }, sequence }
}

export function findInFlight(list: readonly InFlightMessage[] | null, id: bigint): InFlightMessage | null {
  if (list === null) return null
  for (let i = 0; i < list.length; i++) {
    const message = list[i] as InFlightMessage
    if (message.id === id) return message
  }
  return null
}

/** Removes the message from the list and returns it; null if the list does not have it. */
export function takeInFlight(list: InFlightMessage[] | null, id: bigint): InFlightMessage | null {
  if (list === null) return null
  for (let i = 0; i < list.length; i++) {
    const message = list[i] as InFlightMessage
    if (message.id !== id) continue
    if (i === list.length - 1) list.pop()
    else if (i === 0) list.shift()
    else list.splice(i, 1)
    return message
  }
  return null
}
