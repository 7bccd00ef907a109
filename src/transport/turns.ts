/**
 * Turns: every entry into the worker is a turn, whether it comes from a socket, the bus, a timer or an asynchronous
 * result. A turn has one time, catches exceptions, and at its end sends all frames that it produced.
 */
import type { Clock } from '../clock.js'
import type { Now } from './session/now.js'

export class Turns {
  private readonly present = { ms: 0, steadyMs: 0, tick: 1 }
  private depth = 0

  constructor(
    private readonly clock: Clock,
    private readonly atEnd: () => void,
    private readonly onError: (task: string, error: unknown) => void,
  ) {
    this.readClock()
  }

  /** The time of the turn that runs, or of the last one. */
  get now(): Now {
    return this.present
  }

  tick(): void {
    this.present.tick++
  }

  /** @param onThrow ends whatever the failed work leaves in an unknown state. */
  run(task: string, work: () => void, onThrow?: () => void): void {
    this.enter()
    try {
      work()
    } catch (error) {
      this.onError(task, error)
      onThrow?.()
    } finally {
      this.leave()
    }
  }

  /**
   * Begins a turn without the closure of run(), for the messages of devices. The caller must call `leave` in any
   * case.
   */
  enter(): void {
    if (this.depth === 0) this.readClock()
    this.depth++
  }

  leave(): void {
    this.depth--
    if (this.depth === 0) this.atEnd()
  }

  private readClock(): void {
    this.present.ms = this.clock.now()
    this.present.steadyMs = this.clock.steadyMs()
  }
}
