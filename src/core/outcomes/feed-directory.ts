/** The feeds of all projects in memory, kept current by a watch: whether a project wants events is a map look-up. */
import type { Broker, Consumption } from '../../nats/broker.js'
import type { Logger } from '../../observe/log.js'
import { type FeedRecord, openFeeds } from '../../store/feeds.js'

export class FeedDirectory {
  private readonly records = new Map<string, FeedRecord>()
  private readonly listeners = new Set<() => void>()
  private watch: Consumption | null = null

  /** Resolves once everything present was read. Rejects with BrokerError where the store is away. */
  async start(broker: Broker, log: Logger): Promise<this> {
    const store = openFeeds(broker)
    this.watch = await store.table.watch('>', ({ key, value, deleted }) => {
      this.records.delete(key)
      try {
        if (!deleted) this.records.set(key, store.decode(value))
      } catch (error) {
        log.error({ error, key }, 'a feed cannot be read, and its project gets no events')
      }
      for (const listener of this.listeners) listener()
    })
    return this
  }

  /** Null: the project has no events turned on. */
  of(project: string): FeedRecord | null {
    return this.records.get(project) ?? null
  }

  all(): Iterable<FeedRecord> {
    return this.records.values()
  }

  get isEmpty(): boolean {
    return this.records.size === 0
  }

  /** The listener is called after each change, and must not throw. The result removes it. */
  onChange(listener: () => void): () => void {
    this.listeners.add(listener)
    return () => void this.listeners.delete(listener)
  }

  async stop(): Promise<void> {
    this.listeners.clear()
    await this.watch?.stop()
  }
}
