/**
 * Broadcasts: which group messages leave BROADCAST when it is short of room. Only messages that have expired leave, and
 * only as far as the oldest one that has not: cursors of devices are sequences of this log, so no record can be moved.
 */

import { decodeBroadcastRecord } from '../../../../protocol/envelope.js'
import type { Clock } from '../../../clock.js'
import type { Log, LogRecord } from '../../../nats/broker.js'
import type { GiveWayPolicy, Settled } from './give-way.js'
import type { Room } from './room.js'

/** A worker may deliver a message for so long after its expiry by the clock of the store. */
const MARGIN_MS = 60_000

export class Broadcasts implements GiveWayPolicy {
  constructor(
    /** BROADCAST. */
    readonly stream: Log,
    private readonly options: { clock: Clock; room: Room },
  ) {}

  share(): Promise<number> {
    return this.options.room.shareOfBroadcast()
  }

  async bound(): Promise<{ sequence: number; storedAtMs: number }> {
    return { sequence: Number.MAX_SAFE_INTEGER, storedAtMs: Number.POSITIVE_INFINITY }
  }

  async settle(records: LogRecord[]): Promise<Settled> {
    const nowMs = this.options.clock.now()
    const firstToStay = records.findIndex(({ body }) => decodeBroadcastRecord(body).expiresAtMs + MARGIN_MS > nowMs)
    const messages = firstToStay < 0 ? records.length : firstToStay
    if (messages > 0) this.options.room.refresh()
    return { until: records[messages - 1]?.sequence ?? 0, stayed: 0, messages }
  }
}
