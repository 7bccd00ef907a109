/** Finds what is known of a target by its id alone: in EVENTS, or still in MESSAGES where route has not seen it. */
import { decodeStoredMessage, type StoredMessage } from '../../../protocol/envelope.js'
import { partitionOfId } from '../../../protocol/message-id.js'
import { messageByIdFilter, messagesStream } from '../../../protocol/subjects.js'
import type { Fabric } from '../../fabric/fabric.js'
import type { AcceptedEvent, EventLog } from '../../store/events.js'
import { SplitLog } from '../../store/split.js'

export interface FoundTarget {
  accepted: AcceptedEvent
  /** Null: it is not in MESSAGES, or was not looked for there. */
  unrouted: { sequence: number; message: StoredMessage } | null
}

export class MessageFinder {
  private readonly messages: SplitLog

  constructor(
    fabric: Fabric,
    split: number,
    private readonly events: EventLog,
  ) {
    this.messages = new SplitLog(fabric, messagesStream, split)
  }

  /** Null where there is no such target (any more). Rejects with FabricError. */
  async find(id: bigint): Promise<FoundTarget | null> {
    const accepted = await this.events.readAccepted(id)
    if (accepted) return { accepted, unrouted: null }
    const unrouted = await this.findUnrouted(id)
    if (unrouted) return { accepted: acceptedOf(unrouted.message), unrouted }
    // Between the two reads route may have seen it and be done with it.
    const late = await this.events.readAccepted(id)
    return late && { accepted: late, unrouted: null }
  }

  /** Takes a message out of MESSAGES that has ended before route saw it. */
  async withdraw(found: FoundTarget): Promise<void> {
    if (!found.unrouted) return
    const { message, sequence } = found.unrouted
    // Invariant: a final event never stands alone. Route will not write this one once the message is gone.
    await this.events.accepted(message)
    await this.messages.ofDevice(message.device).delete(sequence)
  }

  private async findUnrouted(id: bigint): Promise<FoundTarget['unrouted']> {
    const partition = partitionOfId(id)
    const record = await this.messages.ofPartition(partition).next(messageByIdFilter(partition, id), 1, {
      authoritative: true,
    })
    return record && { sequence: record.sequence, message: decodeStoredMessage(record.body) }
  }
}

function acceptedOf(m: StoredMessage): AcceptedEvent {
  const { parent, project, application, device, registration, acceptedAtMs: atMs, expiresAtMs } = m
  return { parent, project, application, device, registration, atMs, expiresAtMs }
}
