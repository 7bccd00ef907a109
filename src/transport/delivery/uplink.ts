/**
 * What goes from devices to the core: reports for routers, settlements of queued messages, requests.
 *
 * Outcomes are sent once, a batch for each router every few milliseconds: where one is lost, the router's own time-out enqueues. A
 * settlement is repeated until the core confirmed it, which it does after the record is deleted, oldest record first. Too
 * many, and new ones find no room, while those that only wait for something older give theirs up: it could be among the
 * refused. Their records are read and delivered again later, and settled then.
 */
import {
  addRxItem,
  type DeviceRequest,
  decodeDeviceReply,
  decodeSettleReply,
  encodeDeviceRequest,
  encodeRxFields,
  encodeSettleRequest,
  newRxFields,
  type ReportCode,
  type RxFields,
  type SettleItem,
} from '../../../protocol/envelope.js'
import type { ServerFrame } from '../../../protocol/frame-types.js'
import { DEVICE_REQUEST_SUBJECT, rxSubject, SETTLE_SUBJECT } from '../../../protocol/subjects.js'
import { type Clock, sleep } from '../../clock.js'
import type { Bus } from '../../nats/broker.js'
import type { WorkerMetrics } from '../metrics.js'
import { errorFrame } from '../session/requests.js'

/** Items of one request or batch; more go in the next one. */
const BATCH_MAX = 512

/** An report waits for others so long: no device sees it, and what a write costs is shared by more of them. */
const OUTCOMES_MS = 8

const POLL_MS = 50

/** A read that began before a record was deleted may show it for so long after: longer than any read takes. */
const LATE_READ_MS = 15_000

export interface UplinkOptions {
  instance: string
  worker: string
  settlesMax: number
  settleRepeatMs: number
  timeoutMs: number
  onError: (what: string, error: unknown) => void
  /** A settlement of this device was let go of: its queue has to be read again. */
  onGivenUp: (device: string) => void
}

export class Uplink {
  private readonly reports = new Map<string, RxFields>()
  private outcomesDue: (() => void) | null = null
  /** By id and record: the same message can be queued in two records, two streams can have the same sequence. */
  private readonly settles = new Map<string, SettleItem>()
  /** How many settlements of each message wait, or were confirmed so lately that a read may still show the record. */
  private readonly settling = new Map<bigint, number>()
  /** Confirmed in this stretch of LATE_READ_MS, and in the one before. */
  private confirmed: SettleItem[] = []
  private confirmedBefore: SettleItem[] = []
  private forgetDue: (() => void) | null = null
  private settlesDue: (() => void) | null = null
  private isSettleUnderWay = false
  private stopped = false

  constructor(
    private readonly bus: Bus,
    private readonly clock: Clock,
    private readonly metrics: WorkerMetrics,
    private readonly options: UplinkOptions,
  ) {}

  /** `atMs`: this worker's clock. */
  report(router: string, id: bigint, device: string, report: ReportCode, atMs: number): void {
    let batch = this.reports.get(router)
    if (!batch) {
      batch = newRxFields(this.options.instance, this.options.worker)
      this.reports.set(router, batch)
    }
    if (addRxItem(batch, id, device, report, atMs) >= BATCH_MAX) this.publish(router, batch)
    else this.outcomesDue ??= this.clock.after(OUTCOMES_MS, () => this.flush())
  }

  /** Sends the reports that wait, now. */
  flush(): void {
    this.outcomesDue?.()
    this.outcomesDue = null
    for (const [router, batch] of this.reports) this.publish(router, batch)
  }

  private publish(router: string, batch: RxFields): void {
    this.reports.delete(router)
    this.bus.publish(rxSubject(router), encodeRxFields(batch))
  }

  /** False where there is no room. */
  settle(item: SettleItem): boolean {
    const key = settleKey(item)
    if (this.settles.has(key)) return true
    // Not the oldest instead: the younger ones of its device can only be settled after it.
    if (this.settles.size >= this.options.settlesMax) {
      this.metrics.settlesRefused++
      return false
    }
    this.settles.set(key, item)
    this.settling.set(item.id, (this.settling.get(item.id) ?? 0) + 1)
    this.scheduleSettles(0)
    return true
  }

  /** True from the acknowledgement on until no read can show the message any more. */
  isSettling(id: bigint): boolean {
    return this.settling.has(id)
  }

  /** Settlements that wait for their confirmation. */
  get unsettled(): number {
    return this.settles.size
  }

  /** Resolves with the answer as a frame; a core that does not answer is an ERROR as well. */
  async request(request: number, what: DeviceRequest): Promise<ServerFrame> {
    try {
      const { timeoutMs } = this.options
      const body = await this.bus.request(DEVICE_REQUEST_SUBJECT, encodeDeviceRequest(what), { timeoutMs })
      const reply = decodeDeviceReply(body)
      if (!reply.ok) return errorFrame(reply.code, reply.detail, request, reply.retryAfterMs)
      const { registration, registrationId, project, subscriptions } = reply
      if (what.kind !== 'register') return { type: 'DONE', request, subscriptions }
      return { type: 'REGISTERED', request, registration, registrationId, subscriptions, project }
    } catch (error) {
      this.options.onError('device request', error)
      return errorFrame('unavailable', 'the core did not answer', request)
    }
  }

  /** Resolves when all settlements are confirmed, or after `graceMs`: what is left is delivered again. */
  async settled(graceMs: number): Promise<void> {
    const deadlineMs = this.clock.now() + graceMs
    while (this.settles.size > 0 && this.clock.now() < deadlineMs) await sleep(this.clock, POLL_MS)
  }

  stop(): void {
    this.stopped = true
    this.flush()
    this.settlesDue?.()
    this.forgetDue?.()
  }

  private scheduleSettles(afterMs: number): void {
    if (this.settlesDue || this.isSettleUnderWay || this.stopped) return
    this.settlesDue = this.clock.after(afterMs, () => {
      this.settlesDue = null
      void this.sendSettles()
    })
  }

  private async sendSettles(): Promise<void> {
    const { instance, worker, timeoutMs } = this.options
    const batch = this.nextBatch()
    this.isSettleUnderWay = true
    let confirmed = 0
    try {
      const body = encodeSettleRequest({ instance, worker, items: [...batch.values()] })
      for (const sequence of decodeSettleReply(await this.bus.request(SETTLE_SUBJECT, body, { timeoutMs }))) {
        const item = batch.get(sequence)
        if (item && this.settles.delete(settleKey(item))) {
          this.confirmed.push(item)
          confirmed++
        }
      }
      if (this.settles.size >= this.options.settlesMax) this.giveUp(batch)
    } catch (error) {
      this.options.onError('settle', error)
    }
    this.isSettleUnderWay = false
    this.metrics.settled += confirmed
    if (confirmed > 0) this.forgetDue ??= this.clock.after(LATE_READ_MS, () => this.forgetConfirmed())
    // What is left of a batch waits for something older, or for the core: no sense in asking again at once.
    if (this.settles.size > 0) this.scheduleSettles(confirmed > 0 ? 0 : this.options.settleRepeatMs)
  }

  /** What the core answered and did not confirm waits for something older, which found no room while this was here. */
  private giveUp(batch: ReadonlyMap<number, SettleItem>): void {
    for (const item of batch.values()) {
      if (!this.settles.delete(settleKey(item))) continue
      this.forget(item)
      this.options.onGivenUp(item.device)
    }
  }

  /** By sequence, which the reply speaks of: of two items with the same one, the second goes another time. */
  private nextBatch(): Map<number, SettleItem> {
    const batch = new Map<number, SettleItem>()
    for (const [key, item] of this.settles) {
      if (batch.size >= BATCH_MAX) break
      if (batch.has(item.queueSequence)) continue
      batch.set(item.queueSequence, item)
      // To the end, so that what the core cannot settle yet does not keep the rest waiting.
      this.settles.delete(key)
      this.settles.set(key, item)
    }
    return batch
  }

  private forgetConfirmed(): void {
    for (const item of this.confirmedBefore) this.forget(item)
    this.confirmedBefore = this.confirmed
    this.confirmed = []
    const isOver = this.confirmedBefore.length === 0 || this.stopped
    this.forgetDue = isOver ? null : this.clock.after(LATE_READ_MS, () => this.forgetConfirmed())
  }

  private forget({ id }: SettleItem): void {
    const left = (this.settling.get(id) ?? 1) - 1
    if (left > 0) this.settling.set(id, left)
    else this.settling.delete(id)
  }
}

const settleKey = (item: SettleItem) => `${item.id}:${item.queueSequence}`
