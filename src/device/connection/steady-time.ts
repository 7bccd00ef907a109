/**
 * A time that never goes back. If someone sets the wall clock back, deadlines do not move by the difference. A clock that is
 * set forward only brings deadlines early, which costs one reconnect at worst.
 */
export class SteadyTime {
  private lastMs = 0
  private aheadMs = 0

  /** The steady time for a reading of the wall clock. */
  at(nowMs: number): number {
    const now = nowMs + this.aheadMs
    if (now < this.lastMs) this.aheadMs += this.lastMs - now
    this.lastMs = Math.max(now, this.lastMs)
    return this.lastMs
  }

  /** The reading of the wall clock for a steady time. */
  local(steadyMs: number): number {
    return steadyMs - this.aheadMs
  }
}
