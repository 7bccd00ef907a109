/**
 * The queue of the devices that a worker has refused. Each one gets a place of its own: a time to return, so that a
 * crowd returns at the rate at which it can be served, and few devices are refused twice. The queue keeps nothing
 * about a device. It is one number, which grows with each refusal and shrinks with time. Pure.
 */

/**
 * Devices are told to return this much faster than they can be served: some do not come, and an idle worker is worse
 * than a second refusal.
 */
const OVERBOOKING = 1.5
/** A longer queue starts again at its front: the rate so far ahead cannot be predicted. */
const SECONDS_MAX = 300

export class AdmissionQueue {
  private waiting = 0
  private lastMs = 0

  /**
   * Adds one device, at a rate of `servedPerSecond`, and returns its place as Retry-After in seconds: at least 1. The
   * device adds a random part of a second itself.
   */
  add(nowMs: number, servedPerSecond: number): number {
    const returningPerSecond = OVERBOOKING * servedPerSecond
    const returned = (Math.max(0, nowMs - this.lastMs) / 1000) * returningPerSecond
    this.lastMs = nowMs
    this.waiting = Math.max(0, this.waiting - returned)
    if (this.waiting > SECONDS_MAX * returningPerSecond) this.waiting = 0
    return Math.max(1, Math.floor(this.waiting++ / returningPerSecond))
  }
}
