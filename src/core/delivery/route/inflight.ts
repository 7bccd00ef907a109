/**
 * In-flight messages of a router: every delivery that is not yet acknowledged to JetStream, at most `routePendingMax`.
 * Those that are at a worker ("live") are also kept in the order in which they were sent.
 */
import type { StoredMessage } from '../../../../protocol/envelope.js'
import type { Delivery } from '../../../nats/broker.js'
import type { SessionEntry } from '../../../store/sessions.js'
import type { QueueReason } from '../../domain/statuses.js'
import type { CoreMetrics } from '../../metrics.js'

/**
 * The result of storing an `accepted` event.
 * - `first`: this router stored it.
 * - `present`: another router had stored it, or a cancel that found the message before this router did.
 * - `unknown`: the answer of the store was lost.
 */
export type AcceptedMark = 'first' | 'present' | 'unknown'

export interface Target {
  readonly message: StoredMessage
  /** The latest delivery of the message, which has to be acknowledged. */
  delivery: Delivery
  /** True if the message had been delivered before. It then never goes live. */
  readonly redelivered: boolean
  /** The result of storing its `accepted` event. Never rejects. */
  accepted: Promise<AcceptedMark>
  /**
   * - `lane`: waits for its turn in the lane of its device.
   * - `live`: sent to a worker.
   * - `enqueuing`: being added to the queue, which completes whatever arrives meanwhile.
   * - `ending`: its final event is being written.
   */
  state: 'lane' | 'live' | 'enqueuing' | 'ending'
  /** The next action of its lane: find the session and send it, or enqueue it. */
  next: 'send' | 'enqueue'
  /** The session it was last sent to. */
  session: SessionEntry | null
  batch: number
  /** The sweep at which it was sent. A count and not a time, so that a clock that jumps enqueues nothing. */
  sentSweep: number
  /** When the device acknowledged it, by the worker's clock, if that arrived while it was in a lane; 0 otherwise. */
  ackedAtMs: number
  /** The reason for which it is queued; empty if it was never sent. */
  queueReason: QueueReason | ''
}

export class Inflight {
  private readonly targets = new Map<bigint, Target>()
  private readonly live = new Map<bigint, Target>()
  /** The live targets of each device, and the lanes that wait for one of them to return. */
  private readonly liveByDevice = new Map<string, Set<Target>>()
  private readonly waiting = new Map<string, () => void>()

  constructor(private readonly metrics: CoreMetrics) {}

  get size(): number {
    return this.targets.size
  }

  get(id: bigint): Target | undefined {
    return this.targets.get(id)
  }

  add(target: Target): void {
    if (target.redelivered) this.metrics.redelivered++
    this.targets.set(target.message.id, target)
  }

  /** Removes a finished target. */
  remove(target: Target): void {
    this.targets.delete(target.message.id)
    this.removeLive(target)
  }

  /** Removes a target that JetStream will deliver again. */
  nack(target: Target): void {
    this.metrics.nacked++
    this.remove(target)
  }

  /** Marks it as sent to a worker, last in the order of the sweep. */
  markSent(target: Target): void {
    this.metrics.routed++
    target.state = 'live'
    this.live.delete(target.message.id)
    this.live.set(target.message.id, target)
    const { device } = target.message
    const live = this.liveByDevice.get(device)
    if (live) live.add(target)
    else this.liveByDevice.set(device, new Set([target]))
  }

  /** Marks it as no longer waiting for a worker. */
  markReturned(target: Target, state: 'lane' | 'ending'): void {
    target.state = state
    this.removeLive(target)
  }

  /** The live targets of its device that were accepted before it, oldest first. */
  olderLive(target: Target): Target[] {
    const live = this.liveByDevice.get(target.message.device)
    return live ? [...live].filter((other) => isOlder(other, target)).sort(byAcceptance) : []
  }

  /** Resolves when a live target of the device returns. Only one lane may wait for each device. */
  nextReturn(device: string): Promise<void> {
    return new Promise((resolve) => {
      this.waiting.set(device, resolve)
    })
  }

  private removeLive(target: Target): void {
    if (!this.live.delete(target.message.id)) return
    const { device } = target.message
    const live = this.liveByDevice.get(device)
    live?.delete(target)
    if (live?.size === 0) this.liveByDevice.delete(device)
    this.waiting.get(device)?.()
    this.waiting.delete(device)
  }

  /** Live targets that were sent at or before a sweep, oldest first. */
  liveSentUntil(sweep: number): Target[] {
    const silent: Target[] = []
    for (const target of this.live.values()) {
      if (target.sentSweep > sweep) break
      silent.push(target)
    }
    return silent
  }

  /** Live targets that left for the worker of batch `number` with that batch or an earlier one, oldest first. */
  liveInBatch(number: number): Target[] {
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

/** Orders targets by acceptance, which is the order of their stream. */
export function byAcceptance(a: Target, b: Target): number {
  return a.delivery.sequence - b.delivery.sequence
}

const isOlder = (a: Target, b: Target) => byAcceptance(a, b) < 0
