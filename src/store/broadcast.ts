/** BROADCAST: group messages, written once each whatever the size of the group; every worker tails the stream. */
import { type BroadcastRecord, encodeBroadcastRecord } from '../../protocol/envelope.js'
import { BROADCAST_STREAM, broadcastSubject } from '../../protocol/subjects.js'
import type { Broker, Log } from '../nats/broker.js'

export class BroadcastLog {
  readonly log: Log

  constructor(broker: Broker) {
    this.log = broker.log(BROADCAST_STREAM)
  }

  /** Resolves with the position in the log; a repeat inside the duplicate window is stored once. */
  append(record: BroadcastRecord): Promise<number> {
    const subject = broadcastSubject(record.project, record.kind, record.name)
    return this.log.append(subject, encodeBroadcastRecord(record), { messageId: record.id.toString() })
  }
}
