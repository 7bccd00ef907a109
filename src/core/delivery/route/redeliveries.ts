/** Deliveries that are not the first of their message, or may not be, whatever the server calls them. */
import type { Clock } from '../../../clock.js'
import type { Delivery } from '../../../nats/broker.js'
import type { Target } from './inflight.js'

export class Repeats {
  /** First deliveries come in the order of the stream. */
  private furthest = { sequence: 0, storedAtMs: 0 }

  constructor(
    private readonly clock: Clock,
    private readonly ackWaitMs: number,
  ) {}

  /** To be asked once for each, in the order in which they come. */
  isRepeated(delivery: Delivery): boolean {
    const { deliveryCount, sequence, storedAtMs } = delivery
    // A nats-server that was killed may bring back what was acknowledged, and call it a first delivery. A stream that lost its
    // end gives the same sequences again, to what is stored later.
    if (sequence <= this.furthest.sequence && storedAtMs <= this.furthest.storedAtMs) return true
    if (storedAtMs >= this.furthest.storedAtMs) this.furthest = { sequence, storedAtMs }
    return deliveryCount > 1
  }

  /**
   * Another router has perhaps been given it, queued it, and dropped it: it was delivered before, or lies here so long that
   * its ack wait may have run out. By the server's time, since this process may have stood still before it read it.
   */
  isPerhapsElsewhere({ redelivered, delivery }: Target): boolean {
    return redelivered || Math.abs(this.clock.now() - delivery.storedAtMs) > this.ackWaitMs / 2
  }
}
