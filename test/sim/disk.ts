/** The disk of a simulated device. A crash keeps every confirmed write, and any number of the unconfirmed ones. */
import { type Change, DeviceState } from '../../src/device/state/state.js'
import type { StateStore } from '../../src/device/state/state-store.js'
import type { Host } from './host.js'
import { between, type Random } from './random.js'

const SEEN_MAX = 10_000
const WRITE_MS = [0, 8] as const

export interface DiskFaults {
  /** Probability that a write fails. */
  failWrite: number
}

export class SimDisk {
  /** The changes that survive a crash; applied in order they give the state. */
  private readonly durable: Change[] = []
  /** Writes without a confirmation, in order. */
  private pending: Change[][] = []

  constructor(
    private readonly random: Random,
    private readonly now: () => number,
    private readonly faults: DiskFaults,
    first: Change,
    /** Called with each change when the device writes it, before it is durable. */
    private readonly onWrite: (change: Change) => void = () => {},
    /** Above this number of changes the state is compacted to a snapshot, as in the state file. */
    private readonly changesMax = Number.POSITIVE_INFINITY,
  ) {
    this.durable.push(first)
  }

  /** Opens the state store of a device that starts. */
  open(host: Host): StateStore {
    const state = new DeviceState(SEEN_MAX)
    for (const change of this.durable) state.apply(change)
    if (this.durable.length > this.changesMax) this.rewrite(state)
    let lastMs = 0
    return {
      state,
      write: (changes, done) => {
        const write = [...changes]
        for (const change of write) this.onWrite(change)
        this.pending.push(write)
        const now = this.now()
        lastMs = Math.max(now + between(this.random, WRITE_MS), lastMs)
        host.clock.after(lastMs - now, () => done(this.commit(write)))
      },
      close: async () => {
        for (const write of this.pending.splice(0)) this.durable.push(...write)
      },
    }
  }

  crash(): void {
    const kept = between(this.random, [0, this.pending.length])
    for (const write of this.pending.slice(0, kept)) this.durable.push(...write)
    this.pending = []
  }

  private commit(write: Change[]): Error | null {
    // A failed write stays pending, and the next write that succeeds makes it durable too.
    if (this.random() < this.faults.failWrite) return new Error('the disk is full')
    const end = this.pending.indexOf(write)
    for (const earlier of this.pending.splice(0, end + 1)) this.durable.push(...earlier)
    if (this.durable.length > 2 * this.changesMax) {
      const state = new DeviceState(SEEN_MAX)
      for (const change of this.durable) state.apply(change)
      this.rewrite(state)
    }
    return null
  }

  private rewrite(state: DeviceState): void {
    state.sweep(this.now())
    this.durable.splice(0, this.durable.length, ...state.snapshot())
  }
}
