/** Finds what is known of a target by its id: in EVENTS, in MESSAGES where route has not seen it, or in SCHEDULE. */
import { decodeStoredMessage, type StoredMessage } from '../../../../protocol/envelope.js'
import { partitionOfId } from '../../../../protocol/message-id.js'
import { messageByIdFilter, messagesStream } from '../../../../protocol/subjects.js'
import type { Broker } from '../../../nats/broker.js'
import type { AcceptedEvent, EventLog } from '../../../store/events.js'
import type { ScheduleLog } from '../../../store/schedule.js'
import { SplitLog } from '../../../store/split.js'

export interface FoundTarget {
  accepted: AcceptedEvent
  /** Null: it is not in MESSAGES, or was not looked for there. */
  unrouted: { sequence: number; message: StoredMessage } | null
  /** As `unrouted`, in SCHEDULE. */
  scheduled: { sequence: number; message: StoredMessage } | null
}

export class MessageFinder {
  private readonly messages: SplitLog

  constructor(
    broker: Broker,
    split: number,
    private readonly events: EventLog,
    private readonly schedule: ScheduleLog,
  ) {
    this.messages = new SplitLog(broker, messagesStream, split)
  }

  /**
   * Null where there is no such target (any more). Rejects with BrokerError.
   * @param bucket where its message was scheduled, if it was.
   */
  async find(id: bigint, bucket: number | null): Promise<FoundTarget | null> {
    const accepted = await this.events.readAccepted(id)
    if (accepted) return { accepted, unrouted: null, scheduled: null }
    const scheduled = bucket === null ? null : await this.findScheduled(bucket, id)
    if (scheduled) return { accepted: acceptedOf(scheduled.message), unrouted: null, scheduled }
    const unrouted = await this.findUnrouted(id)
    if (unrouted) return { accepted: acceptedOf(unrouted.message), unrouted, scheduled: null }
    // Between the reads route may have seen it and be done with it.
    const late = await this.events.readAccepted(id)
    return late && { accepted: late, unrouted: null, scheduled: null }
  }

  /** Takes a message out of MESSAGES or SCHEDULE that has ended before route saw it. */
  async withdraw({ unrouted, scheduled }: FoundTarget): Promise<void> {
    const waiting = unrouted ?? scheduled
    if (!waiting) return
    const { message, sequence } = waiting
    // Invariant: a final event never stands alone. Route will not write this one once the message is gone.
    await this.events.accepted(message)
    if (unrouted) await this.messages.ofDevice(message.device).delete(sequence)
    else await this.schedule.forget([sequence])
  }

  private async findScheduled(bucket: number, id: bigint): Promise<FoundTarget['scheduled']> {
    const found = await this.schedule.find(bucket, id)
    return found?.entry?.kind === 'unicast' ? { sequence: found.sequence, message: found.entry.message } : null
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
