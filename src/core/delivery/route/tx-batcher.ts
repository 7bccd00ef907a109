/**
 * Collects the frames for each worker, and publishes them once a turn, or earlier if a batch is full.
 *
 * Each batch has its own reply subject under `rx.<router>`, so that "no responders" from the server identifies the batch.
 */
import { encodeTxBatch, type TxItem } from '../../../../protocol/envelope.js'
import { rxSubject, txSubject } from '../../../../protocol/subjects.js'
import type { Clock } from '../../../clock.js'
import type { Bus } from '../../../nats/broker.js'

export interface TxBatcherOptions {
  bus: Bus
  clock: Clock
  router: string
  itemsMax: number
  bytesMax: number
}

interface OpenBatch {
  number: number
  subject: string
  items: TxItem[]
  bytes: number
}

/** Upper estimate of the bytes that msgpack and the other fields of an item add to its frame. */
const ITEM_OVERHEAD_BYTES = 64

export class TxBatcher {
  private readonly open = new Map<string, OpenBatch>()
  private cancelFlush: (() => void) | null = null
  private count = 0

  constructor(private readonly options: TxBatcherOptions) {}

  /** Returns the number of the batch. Items for one worker leave in the order in which they were added. */
  add(instance: string, worker: string, item: TxItem): number {
    const { itemsMax, bytesMax, clock } = this.options
    const subject = txSubject(instance, worker)
    const bytes = item.frame.length + ITEM_OVERHEAD_BYTES
    const present = this.open.get(subject)
    if (present && present.bytes + bytes > bytesMax) this.publish(present)
    const batch = this.open.get(subject) ?? this.openBatch(subject)
    batch.items.push(item)
    batch.bytes += bytes
    if (batch.items.length >= itemsMax) this.publish(batch)
    else this.cancelFlush ??= clock.after(0, () => this.flush())
    return batch.number
  }

  flush(): void {
    this.cancelFlush?.()
    this.cancelFlush = null
    for (const batch of [...this.open.values()]) this.publish(batch)
  }

  /** The number of the batch that a "no responders" is about; null if the subject is not a reply subject of ours. */
  batchOfReply(subject: string): number | null {
    const prefix = `${rxSubject(this.options.router)}.`
    return subject.startsWith(prefix) ? Number(subject.slice(prefix.length)) : null
  }

  private openBatch(subject: string): OpenBatch {
    const batch = { number: ++this.count, subject, items: [], bytes: 0 }
    this.open.set(subject, batch)
    return batch
  }

  private publish(batch: OpenBatch): void {
    this.open.delete(batch.subject)
    const { bus, router, clock } = this.options
    const reply = `${rxSubject(router)}.${batch.number}`
    bus.publish(batch.subject, encodeTxBatch({ router, atMs: clock.now(), items: batch.items }), { reply })
  }
}
