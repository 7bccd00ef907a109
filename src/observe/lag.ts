/** Event loop lag: how late a due timer runs. */
import type { Clock } from '../clock.js'
import { PlainMetrics } from './plain-metrics.js'
import type { MetricsRegistry } from './registry.js'

const LOOK_MS = 250

export class LoopLag {
  private dueAtMs = 0
  private lastMs = 0
  private worstMs = 0
  private cancel: (() => void) | null = null

  constructor(private readonly clock: Clock) {}

  start(): void {
    this.dueAtMs = this.clock.steadyMs() + LOOK_MS
    this.cancel = this.clock.after(LOOK_MS, () => {
      this.lastMs = this.overdueMs()
      this.worstMs = Math.max(this.worstMs, this.lastMs)
      this.start()
    })
  }

  stop(): void {
    this.cancel?.()
    this.cancel = null
  }

  /** The lag at the last timer, or of the timer that is overdue now: a long turn shows while it lasts. */
  now(): number {
    return Math.max(this.lastMs, this.overdueMs())
  }

  /** The highest lag since the last call. */
  takeWorst(): number {
    const worst = Math.max(this.worstMs, this.now())
    this.worstMs = 0
    return worst
  }

  private overdueMs(): number {
    return this.cancel === null ? 0 : Math.max(0, this.clock.steadyMs() - this.dueAtMs)
  }
}

export function lagMetric(lag: LoopLag, registry: MetricsRegistry): void {
  const plain = new PlainMetrics(registry, 'borealis_process_')
  const help = 'Highest delay of the event loop since the last scrape (the worst of all processes).'
  plain.level('event_loop_lag_seconds', help, () => lag.takeWorst() / 1000, 'max')
}
