/**
 * Time that never steps back: a wall clock that is set back must not put every deadline off by as much. Steps forward
 * only bring deadlines early, which costs a reconnect at worst.
 */
export class SteadyTime {
  private lastMs = 0
  private aheadMs = 0

  /** The steady time of a reading of the clock. */
  at(nowMs: number): number {
    const now = nowMs + this.aheadMs
    if (now < this.lastMs) this.aheadMs += this.lastMs - now
    this.lastMs = Math.max(now, this.lastMs)
    return this.lastMs
  }

  /** What the clock reads at a steady time. */
  local(steadyMs: number): number {
    return steadyMs - this.aheadMs
  }
}
