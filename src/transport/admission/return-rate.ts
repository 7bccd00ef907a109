/**
 * The rate at which refused devices can be served when they return. The first guess is that of a worker without a crowd.
 * Devices that return and are refused again show that the guess is too high: the rate then follows the devices that are
 * admitted. If all that return are admitted, the rate rises. Pure.
 */

/** The rate is corrected once in this time. */
const WINDOW_MS = 1_000
/** In this time after its start, the queue has no device that has returned: the refusals are those of the first crowd. */
const FIRST_CROWD_MS = 2_000
/** The weight of a window with second refusals. */
const WEIGHT = 1 / 4
/** The growth in a window without. */
const GROWTH = 1.1
const PER_SECOND_MIN = 10

export class ReturnRate {
  private rate = 0
  private startedMs = 0
  private windowMs = 0
  private admitted = 0
  private refused = 0

  /** Devices a second; 0 before the first start(). */
  get perSecond(): number {
    return this.rate
  }

  /** The queue was empty and fills again. */
  start(nowMs: number, guessPerSecond: number): void {
    this.rate = guessPerSecond
    this.startedMs = this.windowMs = nowMs
    this.admitted = this.refused = 0
  }

  /** A device was admitted or refused while others wait for their time. */
  count(nowMs: number, isAdmitted: boolean): void {
    if (nowMs - this.windowMs >= WINDOW_MS) this.correct(nowMs)
    if (isAdmitted) this.admitted++
    else this.refused++
  }

  private correct(nowMs: number): void {
    const seconds = (nowMs - this.windowMs) / 1000
    if (this.windowMs - this.startedMs >= FIRST_CROWD_MS) {
      const served = this.admitted / seconds
      if (this.refused > 0) this.rate = Math.max(PER_SECOND_MIN, this.rate + WEIGHT * (served - this.rate))
      else this.rate *= GROWTH
    }
    this.windowMs = nowMs
    this.admitted = this.refused = 0
  }
}
