/**
 * RECEIPTS: how many copies of each group message each worker has sent. A record is a running total, which replaces the
 * one before. So a repeated write counts nothing twice, and the number of records depends on the workers alone.
 */
import { Packr } from 'msgpackr'
import { RECEIPTS_STREAM, receiptSubject, receiptsFilter } from '../../protocol/subjects.js'
import { type Broker, BrokerError, type Log } from '../nats/broker.js'

export interface Receipt {
  instance: string
  worker: string
  /** A worker that has forgotten its total of a message begins another part. */
  part: number
  sent: number
  atMs: number
}

const VERSION = 1
const packr = new Packr({ useRecords: false })

export class ReceiptLog {
  private readonly log: Log

  constructor(broker: Broker) {
    this.log = broker.log(RECEIPTS_STREAM)
  }

  /** Replaces the receipt of the same message, worker and part. Rejects with BrokerError. */
  async write(id: bigint, receipt: Receipt): Promise<void> {
    const { instance, worker, part, sent, atMs } = receipt
    await this.log.append(receiptSubject(id, receipt), packr.pack([VERSION, instance, worker, part, sent, atMs]))
  }

  /** The receipts of all workers, in the order of their last change. Rejects with BrokerError. */
  async read(id: bigint): Promise<Receipt[]> {
    const receipts: Receipt[] = []
    for (let from = 1; ; ) {
      const record = await this.log.next(receiptsFilter(id), from, { authoritative: true })
      if (record === null) return receipts
      receipts.push(receiptOf(record.body))
      from = record.sequence + 1
    }
  }
}

function receiptOf(body: Uint8Array): Receipt {
  const f: unknown = packr.unpack(body)
  if (!Array.isArray(f) || f[0] !== VERSION) throw new BrokerError('unavailable', 'a receipt of another version')
  const [, instance, worker, part, sent, atMs] = f as [number, string, string, number, number, number]
  return { instance, worker, part, sent, atMs }
}
