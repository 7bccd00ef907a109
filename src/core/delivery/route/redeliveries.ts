/** Recognises redeliveries, also those that the server calls first deliveries. */
import type { Clock } from '../../../clock.js'
import type { Delivery } from '../../../nats/broker.js'
import type { Target } from './inflight.js'

export class Redeliveries {
  /** The furthest first delivery. First deliveries come in the order of the stream. */
  private furthest = { sequence: 0, storedAtMs: 0 }

  constructor(
    private readonly clock: Clock,
    private readonly ackWaitMs: number,
  ) {}

  /** Call it once for each delivery, in the order of arrival. */
  isRedelivery(delivery: Delivery): boolean {
    const { deliveryCount, sequence, storedAtMs } = delivery
    // A killed nats-server may restore an acknowledged record and call it a first delivery. A stream that lost its end
    // assigns the same sequences again, but to records that were stored later.
    if (sequence <= this.furthest.sequence && storedAtMs <= this.furthest.storedAtMs) return true
    if (storedAtMs >= this.furthest.storedAtMs) this.furthest = { sequence, storedAtMs }
    return deliveryCount > 1
  }

  /**
   * True if another router may have received the message, queued it, and dropped it: the message was delivered before, or
   * it is so old that its ack wait may have run out. The age is measured from the server's time of storage, because this
   * process may have been frozen before it read the message.
   */
  mayBeElsewhere({ redelivered, delivery }: Target): boolean {
    return redelivered || Math.abs(this.clock.now() - delivery.storedAtMs) > this.ackWaitMs / 2
  }
}
