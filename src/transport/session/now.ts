/**
 * The time of one turn of a worker.
 *
 * - `ms`, Unix milliseconds of the service's clock, decides whether a record of the store has expired.
 * - `steadyMs`, a clock that nobody sets, counts down what is left of the life of a message from a router.
 * - `tick` counts the seconds in which the worker ran, and decides whether a device is silent: it stops while the process
 *   is frozen, so a device is never closed as idle because of a pause of the worker.
 */
export interface Now {
  readonly ms: number
  readonly steadyMs: number
  /** Starts at 1. */
  readonly tick: number
}
