/** Keeps the feeds of all projects in memory, so that the publisher needs no read for an event. A watch keeps them current. */
import type { Broker, Consumption } from '../../nats/broker.js'
import type { Logger } from '../../observe/log.js'
import { type FeedRecord, openFeeds } from '../../store/feeds.js'

export class FeedDirectory {
  private readonly records = new Map<string, FeedRecord>()
  private readonly listeners = new Set<() => void>()
  private watch: Consumption | null = null

  /** Resolves when all present feeds are in memory. Rejects with BrokerError. */
  async start(broker: Broker, log: Logger): Promise<this> {
    const store = openFeeds(broker)
    this.watch = await store.table.watch('>', ({ key, value, deleted }) => {
      this.records.delete(key)
      try {
        if (!deleted) this.records.set(key, store.decode(value))
      } catch (error) {
        log.error({ error, key }, 'cannot decode a feed: its project gets no events')
      }
      for (const listener of this.listeners) listener()
    })
    return this
  }

  /** Null: the events of the project are off. */
  of(project: string): FeedRecord | null {
    return this.records.get(project) ?? null
  }

  all(): Iterable<FeedRecord> {
    return this.records.values()
  }

  get isEmpty(): boolean {
    return this.records.size === 0
  }

  /** Calls the listener after each change. It must not throw. Returns a function that removes the listener. */
  onChange(listener: () => void): () => void {
    this.listeners.add(listener)
    return () => void this.listeners.delete(listener)
  }

  async stop(): Promise<void> {
    this.listeners.clear()
    await this.watch?.stop()
  }
}
