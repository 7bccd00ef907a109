/**
 * Settle: workers report which queued messages their devices acknowledged. The core writes the final event, then deletes
 * the record, then confirms. The worker repeats its report until it is confirmed, so a crash in between costs one repeat.
 */
import { decodeSettleRequest, encodeSettleReply, type SettleItem } from '../../../../protocol/envelope.js'
import { CORE_QUEUE, SETTLE_SUBJECT } from '../../../../protocol/subjects.js'
import type { Clock } from '../../../clock.js'
import { groupBy } from '../../../collections.js'
import { BrokerError, type Bus, type BusMessage, type Subscription } from '../../../nats/broker.js'
import type { Logger } from '../../../observe/log.js'
import type { EventLog } from '../../../store/events.js'
import type { DeviceQueue } from '../../../store/queue.js'
import type { CoreMetrics } from '../../metrics.js'

export interface SettleOptions {
  bus: Bus
  clock: Clock
  log: Logger
  metrics: CoreMetrics
  events: EventLog
  queue: DeviceQueue
  /** Most requests in progress. Further ones get no answer, and the worker repeats them. */
  inFlightMax: number
}

export class SettleStep {
  private readonly underWay = new Set<Promise<void>>()
  private subscription: Subscription | null = null

  constructor(private readonly options: SettleOptions) {}

  start(): void {
    const options = { queue: CORE_QUEUE }
    this.subscription = this.options.bus.subscribe(SETTLE_SUBJECT, (message) => this.receive(message), options)
  }

  async stop(): Promise<void> {
    this.subscription?.unsubscribe()
    await Promise.all(this.underWay)
  }

  private receive(message: BusMessage): void {
    if (this.underWay.size >= this.options.inFlightMax) return
    const work = this.answer(message)
    this.underWay.add(work)
    void work.finally(() => this.underWay.delete(work))
  }

  private async answer(message: BusMessage): Promise<void> {
    try {
      const settled = await this.settle(decodeSettleRequest(message.body).items)
      this.options.metrics.settled += settled.length
      if (message.reply !== '') this.options.bus.publish(message.reply, encodeSettleReply(settled))
    } catch (error) {
      this.options.log.warn({ error }, 'a settle request cannot be answered')
    }
  }

  /** Resolves with the sequences to confirm. Items that the store did not take are left out; the worker repeats them. */
  async settle(items: readonly SettleItem[]): Promise<number[]> {
    const byDevice = groupBy(items, (item) => item.device)
    const settled = await Promise.all([...byDevice].map(([device, own]) => this.settleDevice(device, own)))
    // A confirmation names only a sequence. Items of two streams may share one; it is confirmed when both are settled.
    const gone = new Set(settled.flat())
    const openSequences = new Set(items.filter((item) => !gone.has(item)).map((item) => item.queueSequence))
    return [...new Set(items.map((item) => item.queueSequence))].filter((sequence) => !openSequences.has(sequence))
  }

  private async settleDevice(device: string, items: SettleItem[]): Promise<SettleItem[]> {
    const ended: SettleItem[] = []
    try {
      const ends = await Promise.allSettled(items.map((item) => this.end(item)))
      for (const [index, item] of items.entries()) if (ends[index]?.status === 'fulfilled') ended.push(item)
      // Invariant: a record is deleted only after the final event of its message is stored.
      const records = ended.map((item) => ({ sequence: item.queueSequence, id: item.id }))
      const { queue, clock, events } = this.options
      const hasEnded = async (id: bigint) => {
        const final = await events.readFinal(id)
        return final ? final.kind !== 'dropped' : events.hasLeft(id)
      }
      const sequences = new Set(await queue.settle(device, records, clock.now(), hasEnded))
      return ended.filter((item) => sequences.has(item.queueSequence))
    } catch (error) {
      if (!(error instanceof BrokerError)) throw error
      this.options.log.debug({ error, device }, 'queued records cannot be settled now')
      return []
    }
  }

  private async end({ id, device, project, application, atMs }: SettleItem): Promise<void> {
    const { events } = this.options
    const final = { kind: 'delivered', atMs, project, application, device, reason: '' } as const
    const outcome = await events.finalOfQueued(id, final)
    if (outcome.won || outcome.existing === null || outcome.existing.kind === 'delivered') return
    await events.trace(id, { step: 'late_ack', atMs, reason: outcome.existing.kind })
  }
}
