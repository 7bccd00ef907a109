/** Finds a target by its id: in EVENTS, in MESSAGES before the router has seen it, or in SCHEDULE. */
import { decodeStoredMessage, type StoredMessage } from '../../../../protocol/envelope.js'
import { partitionOfId } from '../../../../protocol/message-id.js'
import { messageByIdFilter, messageSubject, messagesStream } from '../../../../protocol/subjects.js'
import type { Broker } from '../../../nats/broker.js'
import type { AcceptedEvent, EventLog } from '../../../store/events.js'
import type { ScheduleLog } from '../../../store/schedule.js'
import { SplitLog } from '../../../store/split.js'

export interface FoundTarget {
  accepted: AcceptedEvent
  /** Null if it is not in MESSAGES or was not searched there. */
  unrouted: { sequence: number; message: StoredMessage } | null
  /** The same for SCHEDULE. */
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
   * Null if there is no such target. Rejects with BrokerError.
   * @param bucket the bucket of SCHEDULE that its message was added to, if it was scheduled.
   */
  async find(id: bigint, bucket: number | null): Promise<FoundTarget | null> {
    const accepted = await this.events.readAccepted(id)
    if (accepted) return { accepted, unrouted: null, scheduled: null }
    const scheduled = bucket === null ? null : await this.findScheduled(bucket, id)
    if (scheduled) return { accepted: acceptedOf(scheduled.message), unrouted: null, scheduled }
    const unrouted = await this.findUnrouted(id)
    if (unrouted) return { accepted: acceptedOf(unrouted.message), unrouted, scheduled: null }
    // Between these reads, the router may have taken the message and finished it.
    const late = await this.events.readAccepted(id)
    return late && { accepted: late, unrouted: null, scheduled: null }
  }

  /**
   * Stores the `accepted` event of a message that no router has seen. Resolves with true if this call stored it. The
   * message then belongs to the caller: a router that takes it finds the event and nacks the message. Call it before the
   * final event is written, because no final event may exist without an `accepted` event.
   */
  async claim({ unrouted, scheduled }: FoundTarget): Promise<boolean> {
    const waiting = unrouted ?? scheduled
    return waiting !== null && (await this.events.accepted(waiting.message))
  }

  /** Removes a claimed message that has ended from MESSAGES or SCHEDULE. */
  async withdraw({ unrouted, scheduled }: FoundTarget): Promise<void> {
    if (unrouted) await this.messages.ofDevice(unrouted.message.device).delete(unrouted.sequence)
    if (scheduled) await this.schedule.remove([scheduled.sequence])
  }

  /** True while a router has the message in flight. Its record stays in MESSAGES until then. */
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
