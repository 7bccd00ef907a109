/** One core process: the delivery core, and its public context where the process has that role. */

import { Bucket } from '../../protocol/subjects.js'
import type { Clock } from '../clock.js'
import type { Keyring } from '../keyring.js'
import type { Broker } from '../nats/broker.js'
import type { Logger } from '../observe/log.js'
import { StopStack } from '../stop-stack.js'
import { newRun, RunningParts } from './cluster/running-parts.js'
import { startServiceClock } from './cluster/service-time.js'
import { startDelivery } from './delivery/delivery.js'
import { encodeRegistrationId, type RegistrationAddress } from './domain/registration-id.js'
import { type FrontEndSettings, startFrontEnd } from './front-end.js'
import { CoreMetrics } from './metrics.js'
import { startFeeds } from './outcomes/outcomes.js'
import type { CoreSettings } from './settings.js'
import { tellEnded } from './tenants/ended-registrations.js'
import { RevokedSweep } from './tenants/revoked-sweep.js'

export interface CoreOptions {
  broker: Broker
  clock: Clock
  /** 0 up to 1, as Math.random. */
  random: () => number
  settings: FrontEndSettings & {
    core: CoreSettings
    /** store.split */
    split: number
  }
  keyring: Keyring
  log: Logger
  metrics?: CoreMetrics
}

export interface Core {
  /** Where the API listens; null where this process has no gateway. */
  readonly url: string | null
  readonly port: number | null
  /** Where the admin API listens; null where it does not. */
  readonly adminUrl: string | null
  /** This process's number in message ids. */
  readonly node: number
  stop(): Promise<void>
}

/** Resolves when everything serves. Rejects with BrokerError or the listener's error; then nothing is left running. */
export async function startCore(options: CoreOptions): Promise<Core> {
  const { broker, random, keyring, log, settings, metrics = new CoreMetrics() } = options
  const { core, split } = settings
  const parts = new StopStack()
  try {
    const clock = await startServiceClock(broker, options.clock, log)
    parts.add(clock)
    const shared = {
      ...{ broker, clock, random, split, log, metrics, settings: core },
      registrationIdOf: (address: RegistrationAddress) =>
        encodeRegistrationId(keyring.registrationKeys.active, address),
      onEnded: (device: string, registration: number) => tellEnded(broker.bus, device, registration),
    }
    // First, so that it stops last: what the other parts end on their way out is told as well.
    parts.add(await startFeeds({ ...shared, webhooks: settings.webhooks }))
    const delivery = await startDelivery(shared)
    parts.add(delivery)
    const { accept, readStatus, cancel, readCounters, listMessages } = delivery
    const { gateway } = core
    const context = await startFrontEnd({
      ...{ broker, keyring, split, accept, readStatus, cancel, readCounters, listMessages },
      ...{ settings, gateway, node: delivery.node, leaseMs: core.leaseMs, clock, random, log, metrics },
    })
    parts.add(context)
    if (core.expiring) {
      const leases = { table: broker.table(Bucket.CORES), clock, holder: newRun(clock, random), leaseMs: core.leaseMs }
      const upkeep = new RunningParts(leases, log)
      parts.add(upkeep)
      await upkeep.underLease('revoked', async () => {
        const sweep = new RevokedSweep({ broker, clock, random, log })
        sweep.start()
        return sweep
      })
    }
    return {
      url: context.url,
      port: context.port,
      adminUrl: context.adminUrl,
      node: delivery.node,
      stop: () => parts.stop(),
    }
  } catch (error) {
    return parts.abandon(error)
  }
}
