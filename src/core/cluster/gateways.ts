/**
 * How many core processes have a gateway now: each writes a sign of life to CORES under its node number, and watches those
 * of the others. Rate limits are shared by this number; nothing that must be right rests on it.
 */
import { Bucket } from '../../../protocol/subjects.js'
import type { Clock } from '../../clock.js'
import { type Broker, BrokerError, type Consumption, type Table, type TableEntry } from '../../nats/broker.js'
import type { Logger } from '../../observe/log.js'

/** How often a sign is written within the time that others wait for one. */
const BEATS = 3

export interface GatewaysOptions {
  broker: Broker
  clock: Clock
  /** This process's number in message ids: no other process has it. */
  node: number
  /** Who gave no sign for so long is gone. */
  leaseMs: number
  log: Logger
}

export class Gateways {
  private readonly table: Table
  /** By key, when its sign came last, by our own clock. */
  private readonly seen = new Map<string, number>()
  private watch: Consumption | null = null
  private cancel: (() => void) | null = null
  private beating: Promise<void> = Promise.resolve()
  private stopped = false

  constructor(private readonly options: GatewaysOptions) {
    this.table = options.broker.table(Bucket.CORES)
  }

  /** Rejects with BrokerError where the store is away. */
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
      // The store is away: the others forget us by themselves.
      if (!(error instanceof BrokerError)) throw error
    }
  }

  count(): number {
    const sinceMs = this.options.clock.now() - this.options.leaseMs
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
    else this.seen.set(key, this.options.clock.now())
  }

  private async beat(): Promise<void> {
    const { clock, leaseMs, log } = this.options
    try {
      await this.table.put(this.key, Buffer.from(JSON.stringify({ v: 1, atMs: clock.now() })))
    } catch (error) {
      log.debug({ error }, 'no sign of life of this gateway')
    }
    if (this.stopped) return
    this.cancel = clock.after(leaseMs / BEATS, () => {
      this.beating = this.beat()
    })
  }
}
