/** A record of the device's queue, as an acknowledgement refers to it. */
import type { StoredMessage } from '../../../protocol/envelope.js'
import type { QueueEntry } from '../../store/queue.js'

/** What settle must know of a queued record. */
export interface QueueRef {
  message: Pick<StoredMessage, 'id' | 'project' | 'application'>
  sequence: number
}

export function refOf({ sequence, record }: QueueEntry): QueueRef {
  const { id, project, application } = record.message
  return { message: { id, project, application }, sequence }
}
