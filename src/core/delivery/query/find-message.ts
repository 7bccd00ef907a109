/** Finds what is known of a target by its id: in EVENTS, in MESSAGES where route has not seen it, or in SCHEDULE. */
import { decodeStoredMessage, type StoredMessage } from '../../../../protocol/envelope.js'
import { partitionOfId } from '../../../../protocol/message-id.js'
import { messageByIdFilter, messageSubject, messagesStream } from '../../../../protocol/subjects.js'
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

  /**
   * Stores the `accepted` event of a message that route has not seen, in route's place. Resolves with true where the message
   * belongs to the caller then: a router that takes it finds the event present and gives the message back. To be called
   * before the final event is written: a final event never stands alone.
   */
  async claim({ unrouted, scheduled }: FoundTarget): Promise<boolean> {
    const waiting = unrouted ?? scheduled
    return waiting !== null && (await this.events.accepted(waiting.message))
  }

  /** Takes a message that was claimed and has ended out of MESSAGES or SCHEDULE. */
  async withdraw({ unrouted, scheduled }: FoundTarget): Promise<void> {
    if (unrouted) await this.messages.ofDevice(unrouted.message.device).delete(unrouted.sequence)
    if (scheduled) await this.schedule.forget([scheduled.sequence])
  }

  /** Whether a router still has to do something for the message: its record stands in MESSAGES until then. */
  async isRouting(id: bigint, device: string): Promise<boolean> {
    const record = await this.messages.ofDevice(device).last(messageSubject(device, id), { authoritative: true })
    return record !== null
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
