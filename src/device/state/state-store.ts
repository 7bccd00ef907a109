/** Where a state is made durable: the port of the machine, and the adapter in memory (load tools, simulation). */
import { type Change, DeviceState } from './state.js'

/**
 * Contract. `write` keeps the order of its calls: when `done` of one is called without an error, it and every write
 * before it are durable. After an error nothing since the last success is certain; the next write that succeeds makes the
 * whole state durable, the failed changes included. `done` may be called before `write` returns.
 */
export interface StateStore {
  /** The state, with every change of `write` already applied by the caller. */
  readonly state: DeviceState
  write(changes: readonly Change[], done: (error: Error | null) => void): void
  /** Waits for what is under way and lets go of the file. Writes after it fail. */
  close(): Promise<void>
}

/** Keeps the state as long as the object lives: a device that is restarted in the same process gets it again. */
export class MemoryStateStore implements StateStore {
  readonly state: DeviceState

  constructor(seenMax = 1_000) {
    this.state = new DeviceState(seenMax)
  }

  write(_changes: readonly Change[], done: (error: Error | null) => void): void {
    done(null)
  }

  async close(): Promise<void> {}
}
