/**
 * Gives way: when a stream comes near its limit, its oldest records leave it, window by window. A policy decides which
 * records may go (history.ts, expiries.ts, broadcasts.ts). Records that stay although they are old are appended again
 * before the window is purged, so that no reader misses them.
 *
 * One purge of a whole window costs nats-server much less than a delete for each record, and it frees disk space at once.
 */
import type { Clock } from '../../../clock.js'
import type { Log, LogRecord } from '../../../nats/broker.js'
import type { Logger } from '../../../observe/log.js'

export interface GiveWayPolicy {
  /** The stream, which has no durable consumers. */
  stream: Log
  /** How much of the stream is used or owed, as a share of the size at which it refuses. Rejects with BrokerError. */
  share(): Promise<number>
  /** The newest record that may leave. Rejects with BrokerError. */
  bound(): Promise<{ sequence: number; storedAtMs: number }>
  /**
   * Decides about the oldest records of the stream, and appends again those that stay. Resolves with the sequence up to
   * which all records can be purged (0: none). Rejects with BrokerError; then nothing is purged.
   */
  settle(records: LogRecord[]): Promise<Settled>
}

export interface Settled {
  until: number
  /** Records that were appended again. */
  stayed: number
  /** Messages that left the stream for good. */
  messages: number
}

export interface GiveWayOptions {
  clock: Clock
  log: Logger
  policy: GiveWayPolicy
  onGone(stream: string, messages: number): void
}

/** Above this share, the oldest records leave. The rest is room for bursts, and for what accepted messages need. */
export const GIVE_WAY_SHARE = 0.8
const LOOK_MS = 2_000
const RECORDS_MAX = 512
/** After a whole round through the stream that freed less than a quarter of it, the next round waits. */
const STAYED_SHARE_MAX = 0.75
const PAUSE_MS = 600_000
const TELL_MS = 3_600_000
const FAILURES_TOLD = 10

export class GiveWayStep {
  private cancel: (() => void) | null = null
  private work: Promise<void> = Promise.resolve()
  private stopped = false
  /** One round goes through every record that stood in the stream at its beginning. */
  private round = { until: 0, seen: 0, stayed: 0 }
  private pausedUntilMs = 0
  /** Turns that failed in a row. */
  private failures = 0
  private told = { atMs: Number.NEGATIVE_INFINITY, messages: 0 }

  constructor(private readonly options: GiveWayOptions) {}

  start(): void {
    this.schedule()
  }

  async stop(): Promise<void> {
    this.stopped = true
    this.cancel?.()
    await this.work
  }

  private schedule(): void {
    this.cancel = this.options.clock.after(LOOK_MS, () => {
      this.work = this.turn()
        .then(
          () => {
            this.failures = 0
          },
          (error: unknown) => this.onFailure(error),
        )
        .then(() => {
          if (!this.stopped) this.schedule()
        })
    })
  }

  /** A store that is away for a moment is reported by others. A user without permission to purge fails every time. */
  private onFailure(error: unknown): void {
    const { log, policy } = this.options
    const fields = { error, stream: policy.stream.name }
    if (++this.failures === FAILURES_TOLD) log.warn(fields, 'no room can be made in this stream')
    else log.debug(fields, 'no room can be made now')
  }

  private async turn(): Promise<void> {
    const { policy, clock } = this.options
    if (clock.now() < this.pausedUntilMs) return
    while (!this.stopped && (await policy.share()) > GIVE_WAY_SHARE) if (!(await this.oneWindow())) return
  }

  /** Resolves with false if no more records can leave now. */
  private async oneWindow(): Promise<boolean> {
    const { policy, onGone } = this.options
    const { stream } = policy
    const records = await oldestRecords(stream, await policy.bound())
    const [oldest] = records
    if (oldest === undefined) return false
    if (oldest.sequence > this.round.until && !(await this.beginRound())) return false
    const { until, stayed, messages } = await policy.settle(records)
    if (until === 0) return false
    await stream.purge('>', until + 1)
    this.round.seen += records.filter(({ sequence }) => sequence <= until).length
    this.round.stayed += stayed
    onGone(stream.name, messages)
    this.tell(messages, records[0]?.storedAtMs ?? 0)
    return true
  }

  private async beginRound(): Promise<boolean> {
    const { policy, clock, log } = this.options
    const { seen, stayed } = this.round
    const { lastSequence } = await policy.stream.state()
    this.round = { until: lastSequence, seen: 0, stayed: 0 }
    if (stayed <= seen * STAYED_SHARE_MAX) return true
    this.pausedUntilMs = clock.now() + PAUSE_MS
    log.warn(
      { stream: policy.stream.name },
      'nearly all of this stream belongs to messages that have not ended: raise its limit',
    )
    return false
  }

  private tell(messages: number, storedAtMs: number): void {
    const { clock, log, policy } = this.options
    this.told.messages += messages
    const nowMs = clock.now()
    if (this.told.messages === 0 || nowMs - this.told.atMs < TELL_MS) return
    log.warn(
      { stream: policy.stream.name, messages: this.told.messages, storedAt: new Date(storedAtMs).toISOString() },
      'the stream is short of room: the oldest messages that have ended left it',
    )
    this.told = { atMs: nowMs, messages: 0 }
  }
}

/** The oldest records, in order and without gaps, none of them after `bound`. */
async function oldestRecords(log: Log, bound: { sequence: number; storedAtMs: number }): Promise<LogRecord[]> {
  const options = { authoritative: true }
  const first = await log.next('>', 1, options)
  if (first === null) return []
  const count = Math.max(0, Math.min(RECORDS_MAX, bound.sequence - first.sequence + 1))
  const rest = Array.from({ length: Math.max(0, count - 1) }, (_, i) => log.at(first.sequence + 1 + i, options))
  const records = [first, ...(await Promise.all(rest))].filter((record) => record !== null).slice(0, count)
  const young = records.findIndex(({ storedAtMs }) => storedAtMs > bound.storedAtMs)
  return young < 0 ? records : records.slice(0, young)
}
