/** The invariants that a run can violate, and the environment that the parts of a simulated world share. */
import type { Logger } from '../../src/observe/log.js'
import type { SimBroker } from './broker.js'
import type { VirtualClock } from './clock.js'
import type { DiskFaults } from './disk.js'
import type { SimNet } from './net.js'
import type { Plan } from './plan.js'
import type { Random } from './random.js'
import type { Trace } from './trace.js'

/** Each value names a check of checks.ts; I1 to I5 are the invariants of ARCHITECTURE.md. */
export type Invariant =
  /** I1: an accepted message has no final event, or a `delivered` message was never seen. */
  | 'loss'
  /** I1: a message expired before its time. */
  /** I1: a message expired, or a device took it as expired, before its time. */
  | 'early'
  /** A cancelled message reached a device that was away when the cancel was answered. */
  | 'cancel'
  /** I2: an app saw a message twice without the mark, or with the mark but without a crash before. */
  | 'duplicate'
  /** I3: an app saw messages of one producer in the wrong order, in a run without faults. */
  | 'order'
  /** I4: the counters differ from the events. */
  | 'conservation'
  /** I5: an app saw a message that was not sent to it. */
  | 'isolation'
  /** A target has not exactly one accepted and one final event. */
  | 'end'
  /** The world does not come to rest, or a record stays in the store. */
  | 'stuck'
  /** A device was told of more dropped messages than were dropped. */
  | 'gap'
  /** An unexpected error, or two runs of one seed that differ. */
  | 'internal'

export interface Violation {
  invariant: Invariant
  detail: string
}

export interface WorldParts {
  readonly plan: Plan
  readonly clock: VirtualClock
  readonly random: Random
  readonly broker: SimBroker
  readonly net: SimNet
  readonly diskFaults: DiskFaults
  /** True if the limits of some streams are so small that the run reaches them. */
  readonly isTight: boolean
  readonly trace: Trace
  /** The errors of wrong clocks, by the name of the process or device. */
  readonly skews: Map<string, number>
  loggerOf(part: string): Logger
  fail(invariant: Invariant, detail: string): void
}
