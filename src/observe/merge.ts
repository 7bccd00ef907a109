/**
 * One scrape for several processes. Counts add up, those of processes that have ended included, so that a sum never goes
 * back when a worker is replaced; levels are joined as each says (sum, max, min).
 */
import { AggregatorRegistry, type MetricObjectWithValues, type MetricValue } from 'prom-client'
import type { MetricsRegistry } from './registry.js'

/** What a process says at a scrape: plain data, fit for an IPC channel. */
export type MetricsReport = MetricObjectWithValues<MetricValue<string>>[]

export async function reportOf(registry: MetricsRegistry): Promise<MetricsReport> {
  return (await registry.getMetricsAsJSON()) as MetricsReport
}

export class MergedMetrics {
  /** Counts of those that have ended; in the order of their ends. */
  private gone: Promise<MetricsReport> = Promise.resolve([])

  /** `report`: the last that it said. */
  ended(report: MetricsReport): void {
    const counts = report.filter(({ type }) => String(type) === 'counter')
    this.gone = this.gone.then((before) => reportOf(AggregatorRegistry.aggregate([before, counts])))
  }

  /** The text of a scrape. */
  async text(reports: readonly MetricsReport[]): Promise<string> {
    return AggregatorRegistry.aggregate([await this.gone, ...reports]).metrics()
  }
}
