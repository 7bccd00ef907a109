/**
 * The time of one turn of a worker.
 *
 * `ms` (Unix) decides expiry. `tick` counts the seconds in which the worker ran, and decides whether a device is
 * silent: it stops while the process is frozen and does not jump when somebody sets the clock, so a device is never
 * closed as idle because of a pause of the worker.
 */
export interface Now {
  readonly ms: number
  /** Starts at 1. */
  readonly tick: number
}

/** An expiry of 0 means "only to a connected device": such an item never expires on its way to one. */
export function isExpired({ expiresAtMs }: { expiresAtMs: number }, now: Now): boolean {
  return expiresAtMs > 0 && expiresAtMs <= now.ms
}
