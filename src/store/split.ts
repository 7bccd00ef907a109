/** A family of streams that per-device subjects are spread over: MESSAGES_<i>, PARKED_<i>, EVENTS_<i>. */
import { partitionOf, partitionOfId } from '../../protocol/message-id.js'
import { streamIndexOf } from '../../protocol/subjects.js'
import type { Fabric, Log } from '../nats/broker.js'

export class SplitLog {
  readonly logs: readonly Log[]

  /** @param streamName such as parkedStream; @param split how many streams the family has. */
  constructor(fabric: Fabric, streamName: (index: number) => string, split: number) {
    this.logs = Array.from({ length: split }, (_, index) => fabric.log(streamName(index)))
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
