/**
 * The worker's own second: HELLO deadlines, and a look at a share of the sessions, so that each is seen about every
 * ROUND_TICKS. One timer for the worker, none for a connection.
 */
import type { Clock } from '../clock.js'
import type { Greeting, Greetings } from './greeting.js'
import type { Registry, Rounds } from './registry.js'
import type { Turns } from './turns.js'

export const TICK_MS = 1_000
const ROUND_TICKS = 10

export interface SweepOptions {
  helloTimeoutMs: number
  /** A device that was silent for longer is closed (after at most ROUND_TICKS more). */
  idleMs: number
}

export class Sweep {
  private readonly rounds: Rounds
  private cancel: (() => void) | null = null

  constructor(
    private readonly clock: Clock,
    private readonly turns: Turns,
    private readonly registry: Registry,
    private readonly greetings: Greetings,
    private readonly options: SweepOptions,
    private readonly on: { helloTimeout: (greeting: Greeting) => void; tick: (tick: number) => void },
  ) {
    this.rounds = registry.rounds()
  }

  start(): void {
    this.cancel = this.clock.after(TICK_MS, () => {
      this.start()
      this.turns.tick()
      this.turns.run('sweep', () => this.sweep())
    })
  }

  stop(): void {
    this.cancel?.()
  }

  private sweep(): void {
    const { now } = this.turns
    const { tick } = now
    // Opened in the middle of a tick: only after one more is the time surely over.
    const helloTicks = Math.ceil(this.options.helloTimeoutMs / TICK_MS)
    for (const greeting of [...this.greetings.openedBefore(tick - helloTicks)]) this.on.helloTimeout(greeting)
    const idleTicks = Math.ceil(this.options.idleMs / TICK_MS)
    const share = Math.ceil(this.registry.size / ROUND_TICKS)
    this.rounds.walk(share, (session) => session.sweep(now, idleTicks))
    this.on.tick(tick)
  }
}
