/**
 * Turns: every entry into the worker, from a socket, the bus, a timer or a result, is one. A turn has one `now`, catches
 * what is thrown, and ends with everything sent that it had to say.
 */
import type { Clock } from '../clock.js'
import type { Now } from './session/now.js'

export class Turns {
  private readonly moment = { ms: 0, tick: 1 }
  private depth = 0

  constructor(
    private readonly clock: Clock,
    private readonly atEnd: () => void,
    private readonly onError: (what: string, error: unknown) => void,
  ) {
    this.moment.ms = clock.now()
  }

  /** Of the turn that runs, or of the last one. */
  get now(): Now {
    return this.moment
  }

  tick(): void {
    this.moment.tick++
  }

  /** `onThrow` says who has to pay for a fault of ours. */
  run(what: string, work: () => void, onThrow?: () => void): void {
    this.enter()
    try {
      work()
    } catch (error) {
      this.onError(what, error)
      onThrow?.()
    } finally {
      this.leave()
    }
  }

  /** A turn without a function of its own, for what happens with each delivery. `leave` has to follow in any case. */
  enter(): void {
    if (this.depth === 0) this.moment.ms = this.clock.now()
    this.depth++
  }

  leave(): void {
    this.depth--
    if (this.depth === 0) this.atEnd()
  }
}
