/** The running parts of a core process, some of them under leases. They stop in the reverse order of their start. */
import type { Clock } from '../../clock.js'
import type { Logger } from '../../observe/log.js'
import { type Stoppable, StopStack } from '../../stop-stack.js'
import type { CoreMetrics, WatchedStep } from '../metrics.js'
import { Lease, LeasedRole, type LeaseOptions } from './lease.js'

export class RunningParts extends StopStack {
  constructor(
    private readonly leases: LeaseOptions,
    private readonly log: Logger,
  ) {
    super()
  }

  /** Runs the part that `begin` starts while this process holds the lease. */
  async underLease(key: string, begin: () => Promise<Stoppable>): Promise<void> {
    const onError = (error: unknown) => this.log.warn({ error, key }, 'a part under a lease did not start or stop')
    const role = new LeasedRole(new Lease(key, this.leases), this.leases.clock, begin, onError)
    this.add(role)
    await role.start()
  }
}

/** A name for this run of the process, for its leases and writes. It is unique except by a very unlikely accident. */
export function newRun(clock: Clock, random: () => number): string {
  return `${clock.now().toString(36)}-${Math.floor(random() * 0xffff_ffff).toString(36)}`
}

/** Adds a part to the metrics until it stops. */
export function watched(metrics: CoreMetrics, part: Stoppable, step: WatchedStep): Stoppable {
  metrics.steps.add(step)
  return {
    stop: () => {
      metrics.steps.delete(step)
      return part.stop()
    },
  }
}
