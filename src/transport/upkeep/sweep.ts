/**
 * The periodic tasks of a worker.
 *
 * The room `upkeep`: the sweep runs once a second (this file), the audit compares sessions with the table (audit.ts),
 * the quiet collection frees memory (quiet-collection.ts), and the drain empties a worker that leaves (drain.ts).
 *
 * The sweep keeps the deadlines of HELLOs and visits a share of the sessions, so that each session is visited about
 * every ROUND_TICKS. The worker has one timer for all connections.
 */
import type { Clock } from '../../clock.js'
import type { Greeting, Greetings } from '../admission/greeting.js'
import type { Registry, Rounds } from '../session/registry.js'
import type { Turns } from '../turns.js'

export const TICK_MS = 1_000
const ROUND_TICKS = 10
/**
 * After a tick that is this late, the worker or the machine was busy, and a missing HELLO is not the device's fault.
 */
const LATE_MS = 250
/** While ticks are late, a HELLO may take this many times its time-out, and not longer however busy the machine is. */
const PATIENCE = 4

export interface SweepOptions {
  helloTimeoutMs: number
  /** A device that is silent for longer is closed, at most ROUND_TICKS later. */
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
    this.dueAtMs = this.clock.steadyMs() + TICK_MS
    this.cancel = this.clock.after(TICK_MS, () => {
      const lateMs = this.clock.steadyMs() - this.dueAtMs
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
    const helloTicks = Math.ceil(this.options.helloTimeoutMs / TICK_MS) * (lateMs >= LATE_MS ? PATIENCE : 1)
    this.greetings.tick(tick)
    // "Before" and not "at": a connection that opened in the middle of a tick has its whole time only one tick later.
    for (const greeting of [...this.greetings.openedBefore(tick - helloTicks)]) this.on.helloTimeout(greeting)
    const idleTicks = Math.ceil(this.options.idleMs / TICK_MS)
    const share = Math.ceil(this.registry.size / ROUND_TICKS)
    this.rounds.walk(share, (session) => session.sweep(now, idleTicks))
    this.on.tick(tick)
  }
}
