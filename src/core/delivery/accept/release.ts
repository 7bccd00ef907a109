/** Into the flow, once: for a repeat under an idempotency key, however late it comes, and for what was scheduled. */
import { type BroadcastRecord, encodeStoredMessage, type StoredMessage } from '../../../../protocol/envelope.js'
import { messageSubject } from '../../../../protocol/subjects.js'
import { BrokerError } from '../../../nats/broker.js'
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
   * What route has seen has its event, what it has not seen is in the stream, and an append to a subject that is not empty
   * is refused. Rejects with BrokerError: then it may be there or not.
   */
  async unicast(message: StoredMessage): Promise<void> {
    if ((await this.events.readAccepted(message.id)) !== null) return
    try {
      const log = this.messages.ofDevice(message.device)
      await log.append(messageSubject(message.device, message.id), encodeStoredMessage(message), {
        messageId: message.id.toString(),
        expectedLastSubjectSequence: 0,
      })
    } catch (error) {
      if (!(error instanceof BrokerError && error.code === 'wrong_last_sequence')) throw error
    }
  }

  /** The event comes second: it proves that the record stands in the log, where a repeat looks for it. */
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
