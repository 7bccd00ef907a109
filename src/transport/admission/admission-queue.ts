/**
 * The admissionQueue of those who found no room: each one refused gets a place of its own in time, so that a crowd comes back at
 * the rate at which it can be served, and nobody knocks in vain again and again. Nothing is kept for a device: the admissionQueue
 * is a number that grows with each refusal and shrinks with time. Pure.
 */

/** More are asked to come than can be served: some will not, and an idle worker is worse than a second refusal. */
const EAGERNESS = 1.5
/** A admissionQueue that would be longer begins anew at its front: so far ahead no rate can be foretold. */
const SECONDS_MAX = 300

export class AdmissionQueue {
  private waiting = 0
  private lastMs = 0

  /**
   * Somebody finds no room, where `perSecond` can be served. Gives Retry-After, in seconds: at least 1. Devices spread
   * over one more by themselves.
   */
  place(nowMs: number, perSecond: number): number {
    const comingPerSecond = EAGERNESS * perSecond
    const gone = (Math.max(0, nowMs - this.lastMs) / 1000) * comingPerSecond
    this.lastMs = nowMs
    this.waiting = Math.max(0, this.waiting - gone)
    if (this.waiting > SECONDS_MAX * comingPerSecond) this.waiting = 0
    return Math.max(1, Math.floor(this.waiting++ / comingPerSecond))
  }
}
