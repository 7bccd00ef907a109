/** How late a process is with its work: what a timer that was due is behind by. */
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
    this.dueAtMs = this.clock.now() + LOOK_MS
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

  /** Of the last look, or of the one that is overdue now: a long turn is seen while it lasts. */
  now(): number {
    return Math.max(this.lastMs, this.overdueMs())
  }

  /** The worst since it was asked the last time. */
  takeWorst(): number {
    const worst = Math.max(this.worstMs, this.now())
    this.worstMs = 0
    return worst
  }

  private overdueMs(): number {
    return this.cancel === null ? 0 : Math.max(0, this.clock.now() - this.dueAtMs)
  }
}

export function lagMetric(lag: LoopLag, registry: MetricsRegistry): void {
  const plain = new PlainMetrics(registry, 'borealis_process_')
  const help = 'How late the process (of several: the worst) was with its work since the last scrape.'
  plain.level('event_loop_lag_seconds', help, () => lag.takeWorst() / 1000, 'max')
}
