/** Appends messages exactly once: repeats under an idempotency key, however late, and scheduled messages. */
import { type BroadcastRecord, encodeStoredMessage, type StoredMessage } from '../../../../protocol/envelope.js'
import { messageSubject } from '../../../../protocol/subjects.js'
import { isConflict } from '../../../nats/broker.js'
import type { BroadcastLog } from '../../../store/broadcast.js'
import type { EventLog } from '../../../store/events.js'
import type { SplitLog } from '../../../store/split.js'

export class Release {
  constructor(
    private readonly messages: SplitLog,
    private readonly broadcast: BroadcastLog,
    private readonly events: EventLog,
  ) {}

  /**
   * A message that the router has seen has an `accepted` event; any other is still in the stream, where an append to a
   * subject that is not empty is refused. Rejects with BrokerError; the message may then be stored or not.
   */
  async unicast(message: StoredMessage): Promise<void> {
    if ((await this.events.readAccepted(message.id)) !== null) return
    await this.scheduled(message)
  }

  /**
   * A message that was scheduled and has not ended. It goes out even if its `accepted` event exists: a cancel may have
   * stored that event and stopped before the final one. A router that gets the message a second time finds what the first
   * one stored. Rejects with BrokerError, as unicast().
   */
  async scheduled(message: StoredMessage): Promise<void> {
    try {
      const log = this.messages.ofDevice(message.device)
      await log.append(messageSubject(message.device, message.id), encodeStoredMessage(message), {
        messageId: message.id.toString(),
        expectedLastSubjectSequence: 0,
      })
    } catch (error) {
      if (!isConflict(error)) throw error
    }
  }

  /** Writes the event after the record: the event proves to a repeat that the record is in the log. */
  async group(record: BroadcastRecord): Promise<void> {
    if ((await this.events.readGroup(record.id)) !== null) return
    await this.firstOfGroup(record)
  }

  async firstOfGroup(record: BroadcastRecord): Promise<void> {
    await this.broadcast.append(record)
    const { id, project, kind, name, acceptedAtMs: atMs, expiresAtMs } = record
    await this.events.group(id, { project, kind, name, atMs, expiresAtMs })
  }
}
