/** What a part of a core process has started, some of it under leases: ended in the reverse order. */
import type { Clock } from '../../clock.js'
import type { Logger } from '../../observe/log.js'
import type { CoreMetrics, WatchedStep } from '../metrics.js'
import { Lease, LeasedRole, type LeaseOptions, type Stoppable } from './lease.js'

export class RunningParts implements Stoppable {
  private readonly parts: Stoppable[] = []

  constructor(
    private readonly leases: LeaseOptions,
    private readonly log: Logger,
  ) {}

  add(part: Stoppable): void {
    this.parts.push(part)
  }

  /** What `begin` gives runs while this process has the lease. */
  async underLease(key: string, begin: () => Promise<Stoppable>): Promise<void> {
    const onError = (error: unknown) => this.log.warn({ error, key }, 'a step could not start or stop')
    const role = new LeasedRole(new Lease(key, this.leases), this.leases.clock, begin, onError)
    this.add(role)
    await role.start()
  }

  async stop(): Promise<void> {
    for (const part of this.parts.splice(0).reverse()) await part.stop()
  }
}

/** Names what one process does from now on: its leases, its writes. No other run has this name, short of bad luck. */
export function newRun(clock: Clock, random: () => number): string {
  return `${clock.now().toString(36)}-${Math.floor(random() * 0xffff_ffff).toString(36)}`
}

/** Among the metrics from now on, until the part is stopped. */
export function watched(metrics: CoreMetrics, part: Stoppable, step: WatchedStep): Stoppable {
  metrics.steps.add(step)
  return {
    stop: () => {
      metrics.steps.delete(step)
      return part.stop()
    },
  }
}
