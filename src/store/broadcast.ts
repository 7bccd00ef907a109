/** BROADCAST: group messages. Each is stored once for a group of any size, and every worker tails the stream. */
import { type BroadcastRecord, encodeBroadcastRecord } from '../../protocol/envelope.js'
import { BROADCAST_STREAM, broadcastSubject } from '../../protocol/subjects.js'
import type { Broker, Log } from '../nats/broker.js'

export class BroadcastLog {
  readonly log: Log

  constructor(broker: Broker) {
    this.log = broker.log(BROADCAST_STREAM)
  }

  /** Resolves with the sequence in the stream. A repeat within the duplicate window is stored once. */
  append(record: BroadcastRecord): Promise<number> {
    const subject = broadcastSubject(record.project, record.kind, record.name)
    return this.log.append(subject, encodeBroadcastRecord(record), { messageId: record.id.toString() })
  }
}
