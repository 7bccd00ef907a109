/**
 * The queue of the devices that a worker has refused. Each one gets a place of its own: a time to return, so that a
 * crowd returns at the rate at which it can be served, and few devices are refused twice. A device that is refused again
 * gets a place behind all others. The queue keeps nothing about a device. It is one number, the time of the next free
 * place. Pure.
 */

/**
 * Devices are told to return this much faster than they can be served: some do not come, and an idle worker is worse
 * than a second refusal.
 */
const OVERBOOKING = 1.5
/** A longer queue starts again at its front: the rate so far ahead cannot be predicted. */
const MS_MAX = 300_000

export class AdmissionQueue {
  private nextPlaceMs = 0

  /**
   * Adds one device, at a rate of `servedPerSecond`, and returns its place as Retry-After in seconds: at least 1. The
   * device adds a random part of a second itself.
   */
  add(nowMs: number, servedPerSecond: number): number {
    if (this.isEmpty(nowMs) || Math.round(this.nextPlaceMs) > nowMs + MS_MAX) this.nextPlaceMs = nowMs
    const seconds = Math.floor((Math.round(this.nextPlaceMs) - nowMs) / 1000)
    this.nextPlaceMs += 1000 / (OVERBOOKING * servedPerSecond)
    return Math.max(1, seconds)
  }

  /** The number of devices that have not come back yet, if the rate was the same for all of them. */
  waiting(nowMs: number, servedPerSecond: number): number {
    return (Math.max(0, this.nextPlaceMs - nowMs) / 1000) * OVERBOOKING * servedPerSecond
  }

  /** True if every place that was given out is due. */
  isEmpty(nowMs: number): boolean {
    return this.nextPlaceMs <= nowMs
  }
}
