import type { Clock } from '../../clock.js'

/** Waits that end early when their owner stops. */
export class Pauses {
  private readonly ends = new Set<() => void>()

  constructor(private readonly clock: Clock) {}

  /** Resolves after the time, or at endAll(). */
  wait(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const end = () => {
        cancel()
        this.ends.delete(end)
        resolve()
      }
      const cancel = this.clock.after(ms, end)
      this.ends.add(end)
    })
  }

  endAll(): void {
    for (const end of [...this.ends]) end()
  }
}
