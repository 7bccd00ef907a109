/**
 * Now, for everything that a worker decides in one turn.
 *
 * `ms` (Unix) judges expiry. `tick` counts the worker's own seconds and judges silence: it stands still while the process
 * is frozen and does not jump when somebody sets the clock, so that nobody is called idle for what was our absence.
 */
export interface Now {
  readonly ms: number
  /** 1 and up. */
  readonly tick: number
}

/** Expiry 0: only now, so that being here in time is all it asks. */
export function isExpired({ expiresAtMs }: { expiresAtMs: number }, now: Now): boolean {
  return expiresAtMs > 0 && expiresAtMs <= now.ms
}
