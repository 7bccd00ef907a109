/**
 * Expiries: which entries leave EXPIRY when it is short of room. An entry stays until its message would have expired, even
 * if the device fetched the message a minute after it was queued. So most entries belong to messages that have ended.
 */
import type { Clock } from '../../../clock.js'
import type { Log, LogRecord } from '../../../nats/broker.js'
import type { EventLog } from '../../../store/events.js'
import { decodeExpiry, type ExpiryEntry, type ExpiryLog } from '../../../store/expiry.js'
import type { DeviceQueue } from '../../../store/queue.js'
import type { GiveWayPolicy, Settled } from './give-way.js'
import type { Room } from './room.js'

export interface ExpiriesOptions {
  clock: Clock
  /** EXPIRY. */
  stream: Log
  expiry: ExpiryLog
  events: EventLog
  queue: DeviceQueue
  room: Room
  historyMinMs: number
}

const LOOKS_AT_ONCE = 64

export class Expiries implements GiveWayPolicy {
  readonly stream: Log

  constructor(private readonly options: ExpiriesOptions) {
    this.stream = options.stream
  }

  share(): Promise<number> {
    return this.options.room.shareOfExpiry()
  }

  async bound(): Promise<{ sequence: number; storedAtMs: number }> {
    const { clock, historyMinMs } = this.options
    return { sequence: Number.MAX_SAFE_INTEGER, storedAtMs: clock.now() - historyMinMs }
  }

  async settle(records: LogRecord[]): Promise<Settled> {
    const { expiry, clock, room } = this.options
    let stayed = 0
    for (let from = 0; from < records.length; from += LOOKS_AT_ONCE) {
      const some = records.slice(from, from + LOOKS_AT_ONCE)
      const left = await Promise.all(some.map((record) => this.whatStays(record)))
      const staying = left.filter((entry) => entry !== null)
      stayed += staying.length
      await Promise.all(staying.map((entry) => expiry.add(entry, clock.now(), { usesReserve: true })))
    }
    room.refresh()
    return { until: records.at(-1)?.sequence ?? 0, stayed, messages: records.length - stayed }
  }

  /** The entry if it still has work to do. An entry of another version does none: the expire step removes it as well. */
  private async whatStays({ body }: LogRecord): Promise<ExpiryEntry | null> {
    const entry = decodeExpiry(body)
    if (entry === null) return null
    const { events, queue, clock } = this.options
    const { id, device, queueSequence } = entry
    const hasEnded = (await events.readFinal(id)) !== null || (await events.hasLeft(id))
    if (!hasEnded) return entry
    // Only this entry knows of a record that was left in the queue: it is removed as at the expiry.
    const stray = await queue.at(device, queueSequence)
    if (stray?.record.message.id !== id) return null
    await queue.remove(device, new Set([id]), clock.now())
    await queue.deleteUnreachable(device, [{ sequence: queueSequence, id }])
    return null
  }
}
