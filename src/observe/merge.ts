/**
 * Merges the metrics of several processes into one scrape. Counters are summed and include processes that have ended,
 * so that a sum never decreases when a worker is replaced. Gauges are merged as each one declares (sum, max, min).
 */
import { AggregatorRegistry, type MetricObjectWithValues, type MetricValue } from 'prom-client'
import type { MetricsRegistry } from './registry.js'

/** The metrics of one process at one moment: plain data, which an IPC channel can carry. */
export type MetricsSnapshot = MetricObjectWithValues<MetricValue<string>>[]

export async function snapshotOf(registry: MetricsRegistry): Promise<MetricsSnapshot> {
  return (await registry.getMetricsAsJSON()) as MetricsSnapshot
}

export class MergedMetrics {
  /** Sum of the counters of all processes that have ended. A promise chain, because aggregation is asynchronous. */
  private ended: Promise<MetricsSnapshot> = Promise.resolve([])

  /** A process has ended; `last` is the last snapshot that it sent. */
  addEnded(last: MetricsSnapshot): void {
    const counters = last.filter(({ type }) => String(type) === 'counter')
    this.ended = this.ended.then((sum) => snapshotOf(AggregatorRegistry.aggregate([sum, counters])))
  }

  /** The text of a scrape: `running`, plus the counters of processes that have ended. */
  async text(running: readonly MetricsSnapshot[]): Promise<string> {
    return AggregatorRegistry.aggregate([await this.ended, ...running]).metrics()
  }
}
