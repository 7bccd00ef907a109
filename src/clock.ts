/** A clock that is passed as an argument, so that the simulation can run all code on a virtual one. */
export interface Clock {
  /** Unix milliseconds. They step when somebody sets the clock. */
  now(): number
  /** Milliseconds since an arbitrary moment. No setting of the clock changes them: for durations and deadlines. */
  steadyMs(): number
  /** Runs `fn` once, `ms` from now; the returned function cancels it. */
  after(ms: number, fn: () => void): () => void
}

export const systemClock: Clock = {
  now: () => Date.now(),
  steadyMs: () => performance.now(),
  after: (ms, fn) => {
    const timer = setTimeout(fn, ms)
    return () => clearTimeout(timer)
  },
}

export function sleep(clock: Clock, ms: number): Promise<void> {
  return new Promise((resolve) => {
    clock.after(ms, resolve)
  })
}
