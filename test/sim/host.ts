/** The machine of a simulated device: its timers stop when it freezes and vanish when it crashes. */
import type { Clock } from '../../src/clock.js'
import type { VirtualClock } from './clock.js'

export class Host {
  readonly clock: Clock
  /** The error of its clock. */
  skewMs = 0
  #dead = false
  #frozen = false
  #held: (() => void)[] = []

  constructor(private readonly world: VirtualClock) {
    this.clock = {
      now: () => world.now() + this.skewMs,
      steadyMs: () => world.steadyMs(),
      after: (ms, fn) => this.#after(ms, fn),
    }
  }

  get isDead(): boolean {
    return this.#dead
  }

  /** Drops all timers and pending work. */
  crash(): void {
    this.#dead = true
    this.#held = []
  }

  /** Holds every timer that falls due, until thaw(). */
  freeze(): void {
    this.#frozen = true
  }

  thaw(): void {
    this.#frozen = false
    if (this.#held.length > 0) this.world.after(0, () => this.#wake())
  }

  #after(ms: number, fn: () => void): () => void {
    let cancelled = false
    const cancel = this.world.after(ms, () =>
      this.#whenAwake(() => {
        if (!cancelled) fn()
      }),
    )
    return () => {
      cancelled = true
      cancel()
    }
  }

  #whenAwake(fn: () => void): void {
    if (this.#dead) return
    // New work queues behind the held work, so that the order of events is kept.
    if (this.#frozen || this.#held.length > 0) this.#held.push(fn)
    else fn()
  }

  #wake(): void {
    if (this.#dead || this.#frozen) return
    this.#held.shift()?.()
    if (this.#held.length > 0) this.world.after(0, () => this.#wake())
  }
}
