/**
 * The node number in message ids. It is leased, so that no two core processes make the same id. A process that cannot
 * renew its lease (frozen, cut off) makes no ids from the moment at which another process may take the number.
 */
import { CodedError } from '../../../protocol/errors.js'
import { MessageIdSource, NODES } from '../../../protocol/message-id.js'
import { BrokerError } from '../../nats/broker.js'
import type { IdSource } from '../domain/ids.js'
import { isFree, Lease, type LeaseOptions, writtenAtMs } from './lease.js'

const nodeKey = (node: number) => `node.${node}`

export class NodeNumber implements IdSource {
  private lease: Lease | null = null
  private ids: MessageIdSource | null = null
  private cancel: (() => void) | null = null
  private beating: Promise<void> = Promise.resolve()
  private stopped = false

  /** @param random returns 0 to below 1, as Math.random does. */
  constructor(
    private readonly options: LeaseOptions,
    private readonly random: () => number,
  ) {}

  /** Resolves with the number. Rejects with BrokerError if the store is unavailable or all numbers are taken. */
  async start(): Promise<number> {
    const node = await this.take()
    this.schedule()
    return node
  }

  async stop(): Promise<void> {
    this.stopped = true
    this.cancel?.()
    await this.beating
    await this.lease?.release()
  }

  next(partition: number): bigint {
    return this.source().next(partition)
  }

  nextBlock(): bigint {
    return this.source().nextBlock()
  }

  private source(): MessageIdSource {
    if (!this.ids || !this.lease || this.options.clock.steadyMs() >= this.lease.heldUntilMs) {
      throw new CodedError('unavailable', 'this process has no node number at the moment')
    }
    return this.ids
  }

  private async take(): Promise<number> {
    const { table, clock, leaseMs } = this.options
    const entries = new Map((await table.entries('node.*')).map((entry) => [entry.key, entry]))
    const first = Math.floor(this.random() * NODES)
    for (let i = 0; i < NODES; i++) {
      const node = (first + i) % NODES
      const entry = entries.get(nodeKey(node)) ?? null
      // Released a moment ago: its last id may be from this millisecond.
      const cooling = entry !== null && writtenAtMs(entry) + leaseMs > clock.now()
      const stale = entry !== null && writtenAtMs(entry) + STALE_LEASES * leaseMs < clock.now()
      if (cooling || !(isFree(entry) || stale)) continue
      const lease = new Lease(nodeKey(node), this.options)
      if (!(await lease.takeOver(entry?.revision ?? 0))) continue
      this.lease = lease
      this.ids = new MessageIdSource(node, () => clock.now())
      return node
    }
    throw new BrokerError('unavailable', `all ${NODES} node numbers are taken`)
  }

  private schedule(): void {
    this.cancel = this.options.clock.after(this.options.leaseMs / 3, () => {
      this.beating = this.renew().then(() => {
        if (!this.stopped) this.schedule()
      })
    })
  }

  private async renew(): Promise<void> {
    if (this.lease && (await this.lease.beat())) return
    this.lease = null
    this.ids = null
    try {
      await this.take()
    } catch (error) {
      // The next beat retries. Until then, accept answers `unavailable`.
      if (!(error instanceof BrokerError)) throw error
    }
  }
}

/** After so many leases without a renewal, a number is free again. The clocks of cores may differ by minutes. */
const STALE_LEASES = 100
