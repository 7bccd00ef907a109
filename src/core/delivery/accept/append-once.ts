/**
 * Appends messages to MESSAGES and BROADCAST, and skips those that were appended before. Accept uses it for a repeat under
 * an idempotency key, which may come days later. The schedule step uses it, because it may run twice.
 */
import { type BroadcastRecord, encodeStoredMessage, type StoredMessage } from '../../../../protocol/envelope.js'
import { messageSubject } from '../../../../protocol/subjects.js'
import { isConflict } from '../../../nats/broker.js'
import type { BroadcastLog } from '../../../store/broadcast.js'
import type { EventLog } from '../../../store/events.js'
import type { SplitLog } from '../../../store/split.js'

export class MessageAppender {
  constructor(
    private readonly messages: SplitLog,
    private readonly broadcast: BroadcastLog,
    private readonly events: EventLog,
  ) {}

  /**
   * A message that the router has seen has an `accepted` event. Any other message is still in the stream, which refuses a
   * second append to its subject. Rejects with BrokerError if it is unknown whether the message is stored.
   */
  async appendOnce(message: StoredMessage): Promise<void> {
    if ((await this.events.readAccepted(message.id)) !== null) return
    await this.appendUnlessInStream(message)
  }

  /**
   * Appends a due message that has not ended, even if its `accepted` event exists: a cancel may have stored that event and
   * crashed before the final one. If a router has finished with the message already, the next router finds its events.
   * Rejects like appendOnce().
   */
  async appendUnlessInStream(message: StoredMessage): Promise<void> {
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

  async appendGroupOnce(record: BroadcastRecord): Promise<void> {
    if ((await this.events.readGroup(record.id)) !== null) return
    await this.appendGroup(record)
  }

  /** Writes the event after the record, because the event proves to appendGroupOnce() that the record is in the log. */
  async appendGroup(record: BroadcastRecord): Promise<void> {
    await this.broadcast.append(record)
    const { id, project, kind, name, acceptedAtMs: atMs, expiresAtMs } = record
    await this.events.group(id, { project, kind, name, atMs, expiresAtMs })
  }
}
