/**
 * Settlements: acknowledgements of queued messages, on their way to the core. The core writes the final event and
 * deletes the record, the oldest record of a device first, and then confirms the settlement.
 *
 * The worker repeats a settlement until the core has confirmed it. Their number is limited. At the limit the worker
 * refuses new settlements and gives up those that the core did not confirm: they wait for an older record, whose
 * settlement may be one of those refused. The records of both stay in the queue, and are read, delivered and settled
 * again.
 */
import { decodeSettleReply, encodeSettleRequest, type SettleItem } from '../../../protocol/envelope.js'
import { SETTLE_SUBJECT } from '../../../protocol/subjects.js'
import { type Clock, sleep } from '../../clock.js'
import type { Bus } from '../../nats/broker.js'
import type { WorkerMetrics } from '../metrics.js'

/** Most items of one request. */
const BATCH_MAX = 512

const POLL_MS = 50

/**
 * A read of the queue that began before a record was deleted can return it for this long: longer than any read takes.
 */
const LATE_READ_MS = 15_000

export interface SettlementsOptions {
  instance: string
  worker: string
  settlesMax: number
  settleRepeatMs: number
  timeoutMs: number
  onError: (task: string, error: unknown) => void
  /** A settlement of this device was given up: its queue has to be read again. */
  onGivenUp: (device: string) => void
}

export class Settlements {
  /**
   * Unconfirmed settlements by message and record: a message can have two records, and two streams the same sequence.
   */
  private readonly unconfirmed = new Map<string, SettleItem>()
  /** For each message: its settlements that are unconfirmed, or confirmed within the last LATE_READ_MS. */
  private readonly counts = new Map<bigint, number>()
  /** Settlements confirmed in the present period of LATE_READ_MS, and in the period before it. */
  private confirmed: SettleItem[] = []
  private confirmedBefore: SettleItem[] = []
  private cancelForget: (() => void) | null = null
  private cancelSend: (() => void) | null = null
  private isSending = false
  private isStopped = false

  constructor(
    private readonly bus: Bus,
    private readonly clock: Clock,
    private readonly metrics: WorkerMetrics,
    private readonly options: SettlementsOptions,
  ) {}

  /** Returns false if there is no room. */
  add(item: SettleItem): boolean {
    const key = keyOf(item)
    if (this.unconfirmed.has(key)) return true
    // The new item is refused, not the oldest one dropped: younger records of a device are settled only after older
    // ones.
    if (this.unconfirmed.size >= this.options.settlesMax) {
      this.metrics.settlesRefused++
      return false
    }
    this.unconfirmed.set(key, item)
    this.counts.set(item.id, (this.counts.get(item.id) ?? 0) + 1)
    this.schedule(0)
    return true
  }

  /** True from the acknowledgement of the message until no read of the queue can return it any more. */
  has(id: bigint): boolean {
    return this.counts.has(id)
  }

  /** The number of settlements that the core has not confirmed. */
  get size(): number {
    return this.unconfirmed.size
  }

  /**
   * Resolves when all settlements are confirmed, or after `graceMs`: the messages of the others are delivered again.
   */
  async allConfirmed(graceMs: number): Promise<void> {
    const deadlineMs = this.clock.steadyMs() + graceMs
    while (this.unconfirmed.size > 0 && this.clock.steadyMs() < deadlineMs) await sleep(this.clock, POLL_MS)
  }

  stop(): void {
    this.isStopped = true
    this.cancelSend?.()
    this.cancelForget?.()
  }

  private schedule(afterMs: number): void {
    if (this.cancelSend || this.isSending || this.isStopped) return
    this.cancelSend = this.clock.after(afterMs, () => {
      this.cancelSend = null
      void this.send()
    })
  }

  private async send(): Promise<void> {
    const { instance, worker, timeoutMs } = this.options
    const batch = this.nextBatch()
    this.isSending = true
    let confirmed = 0
    try {
      const body = encodeSettleRequest({ instance, worker, items: [...batch.values()] })
      for (const sequence of decodeSettleReply(await this.bus.request(SETTLE_SUBJECT, body, { timeoutMs }))) {
        const item = batch.get(sequence)
        if (item && this.unconfirmed.delete(keyOf(item))) {
          this.confirmed.push(item)
          confirmed++
        }
      }
      if (this.unconfirmed.size >= this.options.settlesMax) this.giveUp(batch)
    } catch (error) {
      this.options.onError('settle', error)
    }
    this.isSending = false
    this.metrics.settled += confirmed
    if (confirmed > 0) this.cancelForget ??= this.clock.after(LATE_READ_MS, () => this.forgetConfirmed())
    // If the core confirmed nothing, the items wait for older records or for the core: asking again at once is no use.
    if (this.unconfirmed.size > 0) this.schedule(confirmed > 0 ? 0 : this.options.settleRepeatMs)
  }

  /**
   * Gives up the items that the core answered and did not confirm. They wait for an older record that found no room.
   */
  private giveUp(batch: ReadonlyMap<number, SettleItem>): void {
    for (const item of batch.values()) {
      if (!this.unconfirmed.delete(keyOf(item))) continue
      this.forget(item)
      this.options.onGivenUp(item.device)
    }
  }

  /**
   * Items by sequence, because the reply names sequences. Of two items with the same sequence the second has to wait.
   */
  private nextBatch(): Map<number, SettleItem> {
    const batch = new Map<number, SettleItem>()
    for (const [key, item] of this.unconfirmed) {
      if (batch.size >= BATCH_MAX) break
      if (batch.has(item.queueSequence)) continue
      batch.set(item.queueSequence, item)
      // Moved to the end, so that items that the core cannot settle yet do not delay the others.
      this.unconfirmed.delete(key)
      this.unconfirmed.set(key, item)
    }
    return batch
  }

  private forgetConfirmed(): void {
    for (const item of this.confirmedBefore) this.forget(item)
    this.confirmedBefore = this.confirmed
    this.confirmed = []
    const isOver = this.confirmedBefore.length === 0 || this.isStopped
    this.cancelForget = isOver ? null : this.clock.after(LATE_READ_MS, () => this.forgetConfirmed())
  }

  private forget({ id }: SettleItem): void {
    const left = (this.counts.get(id) ?? 1) - 1
    if (left > 0) this.counts.set(id, left)
    else this.counts.delete(id)
  }
}

const keyOf = (item: SettleItem) => `${item.id}:${item.queueSequence}`
