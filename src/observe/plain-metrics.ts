/**
 * Metrics that are plain numbers of a part and are read at a scrape. A hot path pays one addition for each.
 */
import { Counter, Gauge } from 'prom-client'
import type { MetricsRegistry } from './registry.js'

/** How the levels of several processes become one: see level(). */
export type Merge = 'sum' | 'max' | 'min'

export class PlainMetrics {
  /** @param prefix such as `borealis_transport_`. */
  constructor(
    private readonly registry: MetricsRegistry,
    private readonly prefix: string,
  ) {}

  /** A number that only grows. Its name ends in `_total`. */
  count(name: string, help: string, read: () => number): void {
    const counter = new Counter({
      name: `${this.prefix}${name}`,
      help,
      registers: [this.registry],
      collect() {
        counter.reset()
        counter.inc(read())
      },
    })
  }

  /** One such number for each value of a label. A value without a count is absent. */
  counts(name: string, help: string, label: string, read: () => Iterable<readonly [string, number]>): void {
    const counter = new Counter({
      name: `${this.prefix}${name}`,
      help,
      labelNames: [label],
      registers: [this.registry],
      collect() {
        counter.reset()
        for (const [value, count] of read()) counter.inc({ [label]: value }, count)
      },
    })
  }

  /** A number that goes up and down. @param merge how a scrape merges the levels of several workers. */
  level(name: string, help: string, read: () => number, merge: Merge = 'sum'): void {
    const gauge = new Gauge({
      name: `${this.prefix}${name}`,
      help,
      aggregator: merge,
      registers: [this.registry],
      collect() {
        gauge.set(read())
      },
    })
  }

  /** Levels that are read asynchronously. They are absent while there is no answer. */
  levels(name: string, help: string, label: string, read: () => Promise<Iterable<readonly [string, number]>>): void {
    const gauge = new Gauge({
      name: `${this.prefix}${name}`,
      help,
      labelNames: [label],
      registers: [this.registry],
      async collect() {
        gauge.reset()
        for (const [value, level] of await read()) gauge.set({ [label]: value }, level)
      },
    })
  }
}

/** Adds to the count of a key. */
export function countUp<K>(counts: Map<K, number>, key: K, by = 1): void {
  counts.set(key, (counts.get(key) ?? 0) + by)
}

/** Metrics of the process. prom-client's own event loop metric would wake an idle process a hundred times a second. */
export function processMetrics(registry: MetricsRegistry): void {
  const plain = new PlainMetrics(registry, 'borealis_process_')
  plain.count('cpu_seconds_total', 'CPU time, user and system.', () => {
    const { user, system } = process.cpuUsage()
    return (user + system) / 1e6
  })
  plain.level('resident_bytes', 'Resident memory.', () => process.memoryUsage.rss())
  plain.level('heap_bytes', 'JavaScript heap in use.', () => process.memoryUsage().heapUsed)
}
