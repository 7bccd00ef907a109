/** A simulated machine without a connection to the server, such as a device: a clock that stops with it. */
import type { Clock } from '../../src/clock.js'
import type { VirtualClock } from './clock.js'

export class Host {
  readonly clock: Clock
  /** How wrong its clock is. */
  skewMs = 0
  #dead = false
  #frozen = false
  #held: (() => void)[] = []

  constructor(private readonly world: VirtualClock) {
    this.clock = { now: () => world.now() + this.skewMs, after: (ms, fn) => this.#after(ms, fn) }
  }

  get isDead(): boolean {
    return this.#dead
  }

  /** Its timers, and whatever it waits for, vanish. */
  crash(): void {
    this.#dead = true
    this.#held = []
  }

  /** Nothing runs; what falls due waits. */
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
    // What is held is in front of what comes.
    if (this.#frozen || this.#held.length > 0) this.#held.push(fn)
    else fn()
  }

  #wake(): void {
    if (this.#dead || this.#frozen) return
    this.#held.shift()?.()
    if (this.#held.length > 0) this.world.after(0, () => this.#wake())
  }
}
