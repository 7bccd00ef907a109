/**
 * Counts the work that virtual time waits for: HTTP handlers under way, which Fastify and its streams move on by turns of
 * the event loop, and jobs of WebCrypto in threads, which sign and verify tokens. Such work takes no virtual time.
 */
import { webcrypto } from 'node:crypto'
import type { RealWork } from '../sim/clock.js'

/** A handler that only virtual time can move on has had its last turn of the event loop by then. */
const TURNS = 3
const JOBS = ['sign', 'verify', 'digest', 'importKey', 'exportKey', 'generateKey'] as const

export class WorkCount implements RealWork {
  #underWay = 0
  #jobs = 0

  get isUnderWay(): boolean {
    return this.#underWay > 0
  }

  /** The returned function says that it is done. */
  begin(): () => void {
    this.#underWay++
    let isDone = false
    return () => {
      if (isDone) return
      isDone = true
      this.#underWay--
    }
  }

  async during<T>(work: Promise<T>): Promise<T> {
    const done = this.begin()
    try {
      return await work
    } finally {
      done()
    }
  }

  turn(then: () => void): void {
    let left = TURNS
    const look = () => {
      left = this.#jobs > 0 ? TURNS : left - 1
      if (left > 0) setImmediate(look)
      else then()
    }
    setImmediate(look)
  }

  /** Counts the jobs of WebCrypto until the returned function is called. */
  watchThreads(): () => void {
    const subtle = webcrypto.subtle as unknown as Record<string, (...given: unknown[]) => Promise<unknown>>
    for (const name of JOBS) {
      const original = subtle[name]
      if (!original) throw new TypeError(`WebCrypto has no ${name}`)
      subtle[name] = async (...given) => {
        this.#jobs++
        try {
          return await original.apply(subtle, given)
        } finally {
          this.#jobs--
        }
      }
    }
    return () => {
      // What was put on the object hides what it inherits.
      for (const name of JOBS) delete subtle[name]
    }
  }
}
