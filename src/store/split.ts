/** A family of streams that share per-device subjects by partition: MESSAGES_<i>, QUEUE_<i>, EVENTS_<i>. */
import { partitionOf, partitionOfId } from '../../protocol/message-id.js'
import { streamIndexOf } from '../../protocol/subjects.js'
import type { Broker, Log } from '../nats/broker.js'

export class SplitLog {
  readonly logs: readonly Log[]

  /** @param streamName such as queueStream. @param split the number of streams in the family. */
  constructor(broker: Broker, streamName: (index: number) => string, split: number) {
    this.logs = Array.from({ length: split }, (_, index) => broker.log(streamName(index)))
  }

  ofPartition(partition: number): Log {
    return this.logs[streamIndexOf(partition, this.logs.length)] as Log
  }

  ofDevice(device: string): Log {
    return this.ofPartition(partitionOf(device))
  }

  ofId(id: bigint): Log {
    return this.ofPartition(partitionOfId(id))
  }
}
