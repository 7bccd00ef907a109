/**
 * What a router has in hand: every delivery that is not acknowledged to JetStream yet, at most `routePendingMax`, and
 * of those the ones that are out at a worker, in the order in which they were sent.
 */
import type { StoredMessage } from '../../../../protocol/envelope.js'
import type { Delivery } from '../../../nats/broker.js'
import type { SessionEntry } from '../../../store/sessions.js'
import type { QueueReason } from '../../domain/statuses.js'
import type { CoreMetrics } from '../../metrics.js'

/**
 * `first`: this router stored the event. `present`: somebody else had stored it: another router, or a cancel that met the
 * message before this router did. `unknown`: the store did not say.
 */
export type AcceptedMark = 'first' | 'present' | 'unknown'

export interface Target {
  readonly message: StoredMessage
  /** The latest delivery of it: the one to acknowledge. */
  delivery: Delivery
  /** Had been delivered before: it never goes live again. */
  readonly redelivered: boolean
  /** What became of storing its `accepted` event. Never rejects. */
  accepted: Promise<AcceptedMark>
  /**
   * `lane`: waits for its turn in the lane of its device. `live`: sent to a worker. `enqueuing`: from here on enqueuing
   * completes, whatever arrives. `ending`: its final event is being written.
   */
  state: 'lane' | 'live' | 'enqueuing' | 'ending'
  /** What its lane does with it: finds the session and sends it, or enqueues it. */
  next: 'send' | 'enqueue'
  /** Where it was sent last. */
  session: SessionEntry | null
  batch: number
  /** Sweep at which it was sent: counted, not timed, so that a clock that jumps enqueues nothing. */
  sentSweep: number
  /** Worker's time of the device's acknowledgement, where that came while it was in a lane; 0: it did not. */
  ackedAtMs: number
  /** Why it is queued; empty: it was not sent yet. */
  why: QueueReason | ''
}

export class Inflight {
  private readonly targets = new Map<bigint, Target>()
  private readonly live = new Map<bigint, Target>()
  /** What is out, by device; and who waits for some of it to come back. */
  private readonly out = new Map<string, Set<Target>>()
  private readonly waiting = new Map<string, () => void>()

  constructor(private readonly metrics: CoreMetrics) {}

  get size(): number {
    return this.targets.size
  }

  get(id: bigint): Target | undefined {
    return this.targets.get(id)
  }

  take(target: Target): void {
    if (target.redelivered) this.metrics.redelivered++
    this.targets.set(target.message.id, target)
  }

  /** Done with it, one way or the other. */
  release(target: Target): void {
    this.targets.delete(target.message.id)
    this.notOut(target)
  }

  /** As release; it will be delivered again. */
  nack(target: Target): void {
    this.metrics.nacked++
    this.release(target)
  }

  /** Sent to a worker: last in the order of the sweep. */
  sent(target: Target): void {
    this.metrics.routed++
    target.state = 'live'
    this.live.delete(target.message.id)
    this.live.set(target.message.id, target)
    const { device } = target.message
    const out = this.out.get(device)
    if (out) out.add(target)
    else this.out.set(device, new Set([target]))
  }

  /** No longer waiting for a worker's word. */
  back(target: Target, state: 'lane' | 'ending'): void {
    target.state = state
    this.notOut(target)
  }

  /** Those of its device that are out and were accepted before it, oldest first. */
  olderOut(target: Target): Target[] {
    const out = this.out.get(target.message.device)
    return out ? [...out].filter((other) => isOlder(other, target)).sort(inOrder) : []
  }

  /** Resolves when something of the device that was out is not out any more. One may wait for each device. */
  someBack(device: string): Promise<void> {
    return new Promise((resolve) => {
      this.waiting.set(device, resolve)
    })
  }

  private notOut(target: Target): void {
    if (!this.live.delete(target.message.id)) return
    const { device } = target.message
    const out = this.out.get(device)
    out?.delete(target)
    if (out?.size === 0) this.out.delete(device)
    this.waiting.get(device)?.()
    this.waiting.delete(device)
  }

  /** Those sent at or before a sweep, oldest first. */
  sentUntil(sweep: number): Target[] {
    const silent: Target[] = []
    for (const target of this.live.values()) {
      if (target.sentSweep > sweep) break
      silent.push(target)
    }
    return silent
  }

  /** Those that left for the worker of batch `number`, with it or before it, oldest first. */
  sentWithBatch(number: number): Target[] {
    const live = [...this.live.values()]
    const session = live.find((target) => target.batch === number)?.session
    if (!session) return []
    const { instance, worker } = session
    return live.filter((t) => t.batch <= number && t.session?.worker === worker && t.session.instance === instance)
  }

  all(): Target[] {
    return [...this.targets.values()]
  }
}

/** In the order in which they were accepted: that of their stream. */
export function inOrder(a: Target, b: Target): number {
  return a.delivery.sequence - b.delivery.sequence
}

const isOlder = (a: Target, b: Target) => inOrder(a, b) < 0
