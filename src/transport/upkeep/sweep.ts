/**
 * The worker's own second: HELLO deadlines, and a look at a share of the sessions, so that each is seen about every
 * ROUND_TICKS. One timer for the worker, none for a connection.
 */
import type { Clock } from '../../clock.js'
import type { Greeting, Greetings } from '../admission/greeting.js'
import type { Registry, Rounds } from '../session/registry.js'
import type { Turns } from '../turns.js'

export const TICK_MS = 1_000
const ROUND_TICKS = 10
/** A tick that comes so late comes from a worker, or a machine, that had no time: silence in it is nobody's fault. */
const LATE_MS = 250
/** Without end nobody waits for a HELLO, however busy the machine: so many times its time. */
const PATIENCE = 4

export interface SweepOptions {
  helloTimeoutMs: number
  /** A device that was silent for longer is closed (after at most ROUND_TICKS more). */
  idleMs: number
}

export class Sweep {
  private readonly rounds: Rounds
  private cancel: (() => void) | null = null
  private dueAtMs = 0

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
    this.dueAtMs = this.clock.now() + TICK_MS
    this.cancel = this.clock.after(TICK_MS, () => {
      const lateMs = this.clock.now() - this.dueAtMs
      this.start()
      this.turns.tick()
      this.turns.run('sweep', () => this.sweep(lateMs))
    })
  }

  stop(): void {
    this.cancel?.()
  }

  private sweep(lateMs: number): void {
    const { now } = this.turns
    const { tick } = now
    // Opened in the middle of a tick: only after one more is the time surely over.
    const helloTicks = Math.ceil(this.options.helloTimeoutMs / TICK_MS) * (lateMs >= LATE_MS ? PATIENCE : 1)
    this.greetings.age(tick)
    for (const greeting of [...this.greetings.openedBefore(tick - helloTicks)]) this.on.helloTimeout(greeting)
    const idleTicks = Math.ceil(this.options.idleMs / TICK_MS)
    const share = Math.ceil(this.registry.size / ROUND_TICKS)
    this.rounds.walk(share, (session) => session.sweep(now, idleTicks))
    this.on.tick(tick)
  }
}
