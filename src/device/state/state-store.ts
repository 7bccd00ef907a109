/** The interface of a store that makes a device's state durable, and its implementation in memory. */
import { type Change, DeviceState } from './state.js'

/**
 * Contract: writes keep their order. `done(null)` means that this write and all earlier ones are durable. `done(error)` means
 * that the changes since the last success may or may not be durable; the next success makes the whole state durable,
 * including the failed changes. `done` may be called before `write` returns.
 */
export interface StateStore {
  readonly state: DeviceState
  /** The caller has applied `changes` to `state` already. */
  write(changes: readonly Change[], done: (error: Error | null) => void): void
  /** Resolves when all writes have ended and the file is released. Later writes fail. */
  close(): Promise<void>
}

/** Keeps the state for the life of the object, for load tools and the simulation. */
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
