/**
 * Counts the core processes that have a gateway now. Each writes a sign of life to CORES under its node number, and
 * watches the signs of the others. Rate limits are divided by this number; nothing that must be exact depends on it.
 */
import { Bucket } from '../../../protocol/subjects.js'
import type { Clock } from '../../clock.js'
import { type Broker, BrokerError, type Consumption, type Table, type TableEntry } from '../../nats/broker.js'
import type { Logger } from '../../observe/log.js'

/** Number of signs within the time after which a gateway counts as gone. */
const BEATS = 3

export interface GatewaysOptions {
  broker: Broker
  clock: Clock
  /** Node number of this process in message ids. No other process has it. */
  node: number
  /** A gateway without a sign for this long counts as gone. */
  leaseMs: number
  log: Logger
}

export class Gateways {
  private readonly table: Table
  /** Time of the last sign of each key, by steadyMs() of our clock. */
  private readonly seen = new Map<string, number>()
  private watch: Consumption | null = null
  private cancel: (() => void) | null = null
  private beating: Promise<void> = Promise.resolve()
  private stopped = false

  constructor(private readonly options: GatewaysOptions) {
    this.table = options.broker.table(Bucket.CORES)
  }

  /** Rejects with BrokerError if the store is unavailable. */
  async start(): Promise<void> {
    this.watch = await this.table.watch('gateway.*', (entry) => this.see(entry))
    await this.beat()
  }

  async stop(): Promise<void> {
    this.stopped = true
    this.cancel?.()
    await this.beating
    await this.watch?.stop()
    try {
      await this.table.delete(this.key)
    } catch (error) {
      // The store is unavailable. The other gateways will notice the silence.
      if (!(error instanceof BrokerError)) throw error
    }
  }

  count(): number {
    const sinceMs = this.options.clock.steadyMs() - this.options.leaseMs
    let count = 0
    for (const [key, atMs] of this.seen) {
      if (key === this.key || atMs >= sinceMs) count++
      else this.seen.delete(key)
    }
    return Math.max(1, count)
  }

  private get key(): string {
    return `gateway.${this.options.node}`
  }

  private see({ key, deleted }: TableEntry): void {
    if (deleted) this.seen.delete(key)
    else this.seen.set(key, this.options.clock.steadyMs())
  }

  private async beat(): Promise<void> {
    const { clock, leaseMs, log } = this.options
    try {
      await this.table.put(this.key, Buffer.from(JSON.stringify({ v: 1, atMs: clock.now() })))
    } catch (error) {
      log.debug({ error }, 'a sign of life of this gateway was not stored')
    }
    if (this.stopped) return
    this.cancel = clock.after(leaseMs / BEATS, () => {
      this.beating = this.beat()
    })
  }
}
