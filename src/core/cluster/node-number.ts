/**
 * The node number in message ids: leased, so that no two core processes make the same id. A process that can not renew
 * its lease (frozen, cut off) makes no ids once it may have been given to another.
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

  /** @param random 0 up to 1, as Math.random. */
  constructor(
    private readonly options: LeaseOptions,
    private readonly random: () => number,
  ) {}

  /** Resolves with the number. Rejects with BrokerError where the store is away or every number is taken. */
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
    if (!this.ids || !this.lease || this.options.clock.now() >= this.lease.heldUntilMs) {
      throw new CodedError('unavailable', 'this process has no node number now')
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
      // Given back a moment ago: its last id may be of this very millisecond.
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
      // Tried again with the next beat; until then accept answers `unavailable`.
      if (!(error instanceof BrokerError)) throw error
    }
  }
}

/** A number whose holder was silent for so many leases, by clocks that may differ by minutes, is free again. */
const STALE_LEASES = 100
