/**
 * The time of the service. Cores and workers judge the life of a message by one clock, the clock of the store: it stamps
 * each record that it stores. A process learns that clock from its own records and counts on by its monotonic clock, so
 * that neither a wrong clock of its machine nor a clock that somebody sets ends a message.
 *
 * A record that the process writes and reads back was stored between the two moments. So its stamp bounds the difference
 * between the two clocks, however slow the store is or however long the process is frozen meanwhile.
 */
import type { Clock } from '../clock.js'
import { BrokerError, type Table } from '../nats/broker.js'

/** Writes a record and resolves with the time at which the store took it, in Unix milliseconds. Rejects with BrokerError. */
export type AskStore = () => Promise<number>

export interface ServiceClockEvents {
  /** The clock of this machine differs from the store's by this much: positive if it is ahead. Called once for each time. */
  onWrong(aheadMs: number): void
  /** A later question to the store failed. The clock counts on, and asks again. */
  onError(error: unknown): void
}

/** The monotonic clock and the store's drift apart by microseconds in this time. */
const ASK_MS = 10_000
/** At the start, the store is asked again while its answer leaves more doubt than this, at most so often. */
const DOUBT_MS_MAX = 100
const ASKS_MAX = 5
/** A difference that an operator has to know of. */
const WRONG_MS = 5_000

export class ServiceClock implements Clock {
  /** To add to the monotonic clock. Until the store has answered, as the clock of this machine has it. */
  private aheadMs: number
  private isWrong = false
  private cancel: (() => void) | null = null
  private isStopped = false

  constructor(
    private readonly local: Clock,
    private readonly on: ServiceClockEvents,
  ) {
    this.aheadMs = local.now() - local.steadyMs()
  }

  now(): number {
    return Math.round(this.local.steadyMs() + this.aheadMs)
  }

  steadyMs(): number {
    return this.local.steadyMs()
  }

  after(ms: number, fn: () => void): () => void {
    return this.local.after(ms, fn)
  }

  /** Resolves once the time of the store is known, and then follows it. Rejects with BrokerError. */
  async follow(ask: AskStore): Promise<void> {
    for (let asked = 1; (await this.learnFrom(ask)) > DOUBT_MS_MAX && asked < ASKS_MAX; asked++);
    this.schedule(ask)
  }

  async stop(): Promise<void> {
    this.isStopped = true
    this.cancel?.()
  }

  private schedule(ask: AskStore): void {
    if (this.isStopped) return
    this.cancel = this.local.after(ASK_MS, () => {
      this.learnFrom(ask)
        .catch((error: unknown) => this.on.onError(error))
        .then(() => this.schedule(ask))
    })
  }

  /** Resolves with the doubt that the answer leaves, in milliseconds. */
  private async learnFrom(ask: AskStore): Promise<number> {
    const fromMs = this.steadyMs()
    const storedAtMs = await ask()
    const untilMs = this.steadyMs()
    // The stamp is a whole millisecond, rounded down. A clock that agrees with it stays as it is.
    const least = storedAtMs - untilMs
    const most = storedAtMs + 1 - fromMs
    this.aheadMs = Math.min(Math.max(this.aheadMs, least), most)
    this.compare()
    return untilMs - fromMs
  }

  private compare(): void {
    const wrongMs = this.local.now() - this.now()
    const isWrong = Math.abs(wrongMs) > WRONG_MS
    if (isWrong && !this.isWrong) this.on.onWrong(wrongMs)
    this.isWrong = isWrong
  }
}

/** Asks with a record of its own in a table. Processes may share the key: a later record of another one says the same. */
export function askWith(table: Table, key: string, value: Uint8Array): AskStore {
  return async () => {
    await table.put(key, value)
    return storedAt(table, key)
  }
}

/** When the store took the present record of a key. Rejects with BrokerError. */
export async function storedAt(table: Table, key: string): Promise<number> {
  const entry = await table.get(key, { authoritative: true })
  if (entry === null) throw new BrokerError('unavailable', `${table.name}: ${key} was deleted meanwhile`)
  return entry.storedAtMs
}
