/**
 * Figures that are counted as plain numbers, wherever it happens, and read when somebody scrapes: a hot path pays one
 * addition.
 */
import { Counter, Gauge } from 'prom-client'
import type { MetricsRegistry } from './registry.js'

/** How several processes' levels become one: see levelOf. */
export type Merge = 'sum' | 'max' | 'min'

export class PlainMetrics {
  /** `prefix`: such as `borealis_transport_`. */
  constructor(
    private readonly registry: MetricsRegistry,
    private readonly prefix: string,
  ) {}

  /** What only grows; the name ends in `_total`. */
  count(name: string, help: string, read: () => number): void {
    const counter = new Counter({
      ...{ name: `${this.prefix}${name}`, help, registers: [this.registry] },
      collect() {
        counter.reset()
        counter.inc(read())
      },
    })
  }

  /** The same for each value of a label; a label without a count yet is absent. */
  counts(name: string, help: string, label: string, read: () => Iterable<readonly [string, number]>): void {
    const counter = new Counter({
      ...{ name: `${this.prefix}${name}`, help, labelNames: [label], registers: [this.registry] },
      collect() {
        counter.reset()
        for (const [value, count] of read()) counter.inc({ [label]: value }, count)
      },
    })
  }

  /** What goes up and down. `merge`: how the scrape of an instance joins its workers' levels. */
  level(name: string, help: string, read: () => number, merge: Merge = 'sum'): void {
    const gauge = new Gauge({
      ...{ name: `${this.prefix}${name}`, help, aggregator: merge, registers: [this.registry] },
      collect() {
        gauge.set(read())
      },
    })
  }

  /** Levels that have to be asked for; while there is no answer they are absent. */
  levels(name: string, help: string, label: string, read: () => Promise<Iterable<readonly [string, number]>>): void {
    const gauge = new Gauge({
      ...{ name: `${this.prefix}${name}`, help, labelNames: [label], registers: [this.registry] },
      async collect() {
        gauge.reset()
        for (const [value, level] of await read()) gauge.set({ [label]: value }, level)
      },
    })
  }
}

/** Adds one under a name. */
export function countUp<K>(counts: Map<K, number>, key: K, by = 1): void {
  counts.set(key, (counts.get(key) ?? 0) + by)
}

/** The process itself, without a timer: prom-client's own look at the event loop wakes it a hundred times a second. */
export function processMetrics(registry: MetricsRegistry): void {
  const plain = new PlainMetrics(registry, 'borealis_process_')
  plain.count('cpu_seconds_total', 'CPU time, user and system.', () => {
    const { user, system } = process.cpuUsage()
    return (user + system) / 1e6
  })
  plain.level('resident_bytes', 'Resident memory.', () => process.memoryUsage.rss())
  plain.level('heap_bytes', 'JavaScript heap in use.', () => process.memoryUsage().heapUsed)
}
