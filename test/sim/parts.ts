/** What the parts of a simulated world share. */
import type { Logger } from '../../src/observe/log.js'
import type { SimBroker } from './broker.js'
import type { VirtualClock } from './clock.js'
import type { DiskFaults } from './disk.js'
import type { SimNet } from './net.js'
import type { Plan } from './plan.js'
import type { Random } from './random.js'
import type { Trace } from './trace.js'

/** I1 to I5 of the design, and what must never happen at all. */
export type Invariant =
  | 'loss'
  | 'cancel'
  | 'duplicate'
  | 'order'
  | 'conservation'
  | 'isolation'
  | 'end'
  | 'stuck'
  | 'gap'
  | 'internal'

export interface Violation {
  invariant: Invariant
  what: string
}

export interface WorldParts {
  readonly plan: Plan
  readonly clock: VirtualClock
  readonly random: Random
  readonly broker: SimBroker
  readonly net: SimNet
  readonly diskFaults: DiskFaults
  readonly trace: Trace
  loggerOf(who: string): Logger
  fail(invariant: Invariant, what: string): void
}
