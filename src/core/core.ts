/** Composes a core process: outcomes, delivery, and the front end, which is the APIs, device requests and NATS ingress. */
import { Bucket } from '../../protocol/subjects.js'
import type { Clock } from '../clock.js'
import type { Keyring } from '../keyring.js'
import type { Broker } from '../nats/broker.js'
import type { Logger } from '../observe/log.js'
import { StopStack } from '../stop-stack.js'
import type { Bind } from './api/server.js'
import { newRun, RunningParts } from './cluster/running-parts.js'
import { startServiceClock } from './cluster/service-time.js'
import { startDelivery } from './delivery/delivery.js'
import { encodeRegistrationId, type RegistrationAddress } from './domain/registration-id.js'
import { type FrontEndSettings, startFrontEnd } from './front-end.js'
import { CoreMetrics } from './metrics.js'
import { startFeeds } from './outcomes/outcomes.js'
import type { CoreSettings } from './settings.js'
import { publishEnded } from './tenants/ended-registrations.js'
import { RevokedSweep } from './tenants/revoked-sweep.js'

export interface CoreOptions {
  broker: Broker
  clock: Clock
  /** Returns a number in [0, 1), like Math.random. */
  random: () => number
  settings: FrontEndSettings & {
    core: CoreSettings
    /** store.split */
    split: number
  }
  keyring: Keyring
  log: Logger
  metrics?: CoreMetrics
  /** How the HTTP servers get to their addresses; absent: they listen there. */
  bind?: Bind
}

export interface Core {
  /** Address of the HTTP API; null: this process does not serve it (core.gateway). */
  readonly url: string | null
  readonly port: number | null
  /** Address of the admin API; null: this process does not serve it. */
  readonly adminUrl: string | null
  /** The number of this process in message ids. */
  readonly node: number
  stop(): Promise<void>
}

/** Resolves when all parts run. Rejects with BrokerError or a listener's error, after it has stopped all parts. */
export async function startCore(options: CoreOptions): Promise<Core> {
  const { broker, random, keyring, log, settings, metrics = new CoreMetrics() } = options
  const { core, split } = settings
  const parts = new StopStack()
  try {
    const clock = await startServiceClock(broker, options.clock, log)
    parts.add(clock)
    const shared = {
      broker,
      clock,
      random,
      split,
      log,
      metrics,
      settings: core,
      registrationIdOf: (address: RegistrationAddress) =>
        encodeRegistrationId(keyring.registrationKeys.active, address),
      onEnded: (device: string, registration: number) => publishEnded(broker.bus, device, registration),
    }
    // Parts stop in reverse order. Outcomes stop last, so that they publish the final events of the other parts.
    parts.add(await startFeeds({ ...shared, webhooks: settings.webhooks, secrets: keyring.secretsKeys }))
    const delivery = await startDelivery(shared)
    parts.add(delivery)
    const frontEnd = await startFrontEnd({
      broker,
      keyring,
      split,
      accept: delivery.accept,
      readStatus: delivery.readStatus,
      cancel: delivery.cancel,
      readCounters: delivery.readCounters,
      listMessages: delivery.listMessages,
      settings,
      gateway: core.gateway,
      node: delivery.node,
      leaseMs: core.leaseMs,
      clock,
      random,
      log,
      metrics,
      ...(options.bind && { bind: options.bind }),
    })
    parts.add(frontEnd)
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
      url: frontEnd.url,
      port: frontEnd.port,
      adminUrl: frontEnd.adminUrl,
      node: delivery.node,
      stop: () => parts.stop(),
    }
  } catch (error) {
    return parts.abandon(error)
  }
}
