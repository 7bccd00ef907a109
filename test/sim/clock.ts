/**
 * A virtual clock. Timers run one by one, in the order of their times, then in the order of scheduling. After each timer
 * all promise callbacks that can run do so, so that a run depends on its seed alone.
 */
import type { Clock } from '../../src/clock.js'

/** Work in real time for which virtual time must wait, such as a signing thread or an HTTP handler that reads a stream. */
export interface RealWork {
  readonly isUnderWay: boolean
  /** Turns the event loop until the work waits for virtual time, then calls `then`. */
  turn(then: () => void): void
}

interface Event {
  atMs: number
  order: number
  fn: (() => void) | null
  /** The timer settles no promise, so the clock need not run promise callbacks after it, which would cost time. */
  quiet: boolean
}

export class VirtualClock implements Clock {
  readonly #startMs: number
  #nowMs: number
  #skippedMs = 0
  #order = 0
  /** A binary heap; cancelled events stay until their time, as `fn: null`. */
  readonly #heap: Event[] = []

  constructor(
    startMs = Date.UTC(2026, 0, 1),
    private readonly realWork: RealWork | null = null,
  ) {
    this.#startMs = startMs
    this.#nowMs = startMs
  }

  now(): number {
    return this.#nowMs
  }

  steadyMs(): number {
    return this.#nowMs - this.#startMs
  }

  after(ms: number, fn: () => void): () => void {
    return this.#schedule(ms, fn, false)
  }

  /** Like after(), for callbacks of the simulation that settle no promise. */
  quietly(ms: number, fn: () => void): () => void {
    return this.#schedule(ms, fn, true)
  }

  /** The time of the next timer; Infinity if there is none. */
  get nextAtMs(): number {
    return this.#heap[0]?.atMs ?? Number.POSITIVE_INFINITY
  }

  /** Runs all timers of the next `ms`, and sets the time to the end of that span. */
  async advance(ms: number): Promise<void> {
    const endMs = this.#nowMs + ms
    await this.#runWhile(() => this.nextAtMs <= endMs)
    this.#nowMs = endMs
  }

  /** Advances the time without running timers, as if every machine had been suspended. Due timers run late, afterwards. */
  skip(ms: number): void {
    this.#nowMs += ms
    this.#skippedMs += ms
  }

  /** The virtual time in which timers ran, in milliseconds. */
  awakeMs(): number {
    return this.#nowMs - this.#startMs - this.#skippedMs
  }

  /** Runs until `done` returns true. Gives false if that does not happen within `msMax` or before the last timer. */
  async until(done: () => boolean, msMax: number): Promise<boolean> {
    const endMs = this.#nowMs + msMax
    await this.#runWhile(() => !done() && this.nextAtMs <= endMs)
    return done()
  }

  /** Runs until `promise` is settled. Rejects if that does not happen within `msMax` or before the last timer. */
  async advanceUntil<T>(promise: Promise<T>, msMax = 3_600_000): Promise<T> {
    let settled = false
    const mark = () => {
      settled = true
    }
    promise.then(mark, mark)
    if (!(await this.until(() => settled, msMax)))
      throw new Error(`the promise is not settled after ${msMax} ms of virtual time`)
    return promise
  }

  /** Runs timers in the background, for code that awaits without driving the clock. The returned function stops it. */
  runFreely(): () => void {
    let running = true
    const turn = () => {
      if (!running) return
      const event = this.#pop()
      if (event) {
        this.#nowMs = Math.max(this.#nowMs, event.atMs)
        event.fn?.()
      }
      setImmediate(turn)
    }
    setImmediate(turn)
    return () => {
      running = false
    }
  }

  /**
   * Runs all timers in one turn of the event loop, because a turn for each timer would cost far more time. While work in
   * real time is under way, the event loop turns between two timers.
   */
  #runWhile(more: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      let hasTurned = false
      const run = () => {
        try {
          settlePromises()
          while (more()) {
            if (this.realWork?.isUnderWay && !hasTurned) {
              hasTurned = true
              this.realWork.turn(run)
              return
            }
            hasTurned = false
            const event = this.#pop()
            if (!event) break
            this.#nowMs = Math.max(this.#nowMs, event.atMs)
            if (!event.fn) continue
            event.fn()
            if (!event.quiet) settlePromises()
          }
          resolve()
        } catch (error) {
          reject(error)
        }
      }
      setImmediate(run)
    })
  }

  #schedule(ms: number, fn: () => void, quiet: boolean): () => void {
    const event: Event = { atMs: this.#nowMs + Math.max(0, ms), order: this.#order++, fn, quiet }
    this.#push(event)
    return () => {
      event.fn = null
    }
  }

  #push(event: Event): void {
    const heap = this.#heap
    let at = heap.push(event) - 1
    while (at > 0) {
      const up = (at - 1) >> 1
      const parent = heap[up]
      if (!parent || isBefore(parent, event)) break
      heap[at] = parent
      at = up
    }
    heap[at] = event
  }

  #pop(): Event | undefined {
    const heap = this.#heap
    const first = heap[0]
    const moved = heap.pop()
    if (!first || !moved || heap.length === 0) return first
    let at = 0
    for (;;) {
      const left = heap[2 * at + 1]
      const right = heap[2 * at + 2]
      const small = right && left && isBefore(right, left) ? right : left
      if (!small || isBefore(moved, small)) break
      heap[at] = small
      at = small === left ? 2 * at + 1 : 2 * at + 2
    }
    heap[at] = moved
    return first
  }
}

const isBefore = (a: Event, b: Event) => a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order)

/**
 * Runs all promise callbacks that can run, synchronously. Call it from a callback of the event loop, never from a
 * promise callback. A turn of the event loop would do the same, but would take most of the time of a simulation.
 */
const settlePromises = (process as unknown as { _tickCallback: () => void })._tickCallback
