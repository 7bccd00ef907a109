/**
 * Outcomes for app servers: the events feed on NATS, and webhooks. This file starts both in a core process, each under a
 * lease, so that one process at a time does the work.
 */
import { Bucket, eventsStream, OUTCOME_EVENTS_STREAM } from '../../../protocol/subjects.js'
import type { Clock } from '../../clock.js'
import type { Broker } from '../../nats/broker.js'
import type { Logger } from '../../observe/log.js'
import type { Stoppable } from '../../stop-stack.js'
import { EventLog } from '../../store/events.js'
import { FeedStates } from '../../store/feeds.js'
import type { LiveSecretsKeys } from '../../store/sealed-secrets.js'
import { newRun, RunningParts, watched } from '../cluster/running-parts.js'
import type { RegistrationIdOf } from '../domain/ids.js'
import type { CoreMetrics } from '../metrics.js'
import type { CoreSettings } from '../settings.js'
import { FeedDirectory } from './feed-directory.js'
import { OutcomePublisher } from './publish.js'
import { SecretReseal } from './reseal.js'
import { AddressGuard } from './webhooks/addresses.js'
import type { WebhookSettings } from './webhooks/settings.js'
import { Webhooks } from './webhooks/webhooks.js'

export interface FeedsOptions {
  broker: Broker
  clock: Clock
  /** Returns a number in [0, 1), like Math.random. */
  random: () => number
  settings: Pick<
    CoreSettings,
    'publishing' | 'webhooks' | 'publishInflightMax' | 'leaseMs' | 'checkpointMs' | 'retryMs' | 'drainMs'
  >
  webhooks: WebhookSettings
  /** store.split */
  split: number
  log: Logger
  metrics: CoreMetrics
  registrationIdOf: RegistrationIdOf
  secrets: LiveSecretsKeys
}

/** Rejects with BrokerError, or RangeError for an invalid `webhooks.allowedNetworks`, after it has stopped all parts. */
export async function startFeeds(options: FeedsOptions): Promise<Stoppable> {
  const { broker, clock, random, settings, split, log, metrics } = options
  const run = newRun(clock, random)
  const leases = { table: broker.table(Bucket.CORES), clock, holder: run, leaseMs: settings.leaseMs }
  const started = new RunningParts(leases, log)
  try {
    const feeds = await new FeedDirectory().start(broker, log)
    started.add(feeds)
    const { secrets } = options
    await started.underLease('secrets', async () => {
      const reseal = new SecretReseal({ broker, clock, log, feeds, secrets, retryMs: settings.retryMs })
      reseal.start()
      return reseal
    })
    const states = new FeedStates(broker)
    const events = new EventLog(broker, split, run)
    if (settings.publishing) {
      await started.underLease('publish', () => {
        const { checkpointMs, retryMs, publishInflightMax: inflightMax } = settings
        const shared = { clock, log, metrics, events, feeds, states, checkpointMs, retryMs, inflightMax }
        const steps = Array.from({ length: split }, (_, index) => {
          const source = broker.log(eventsStream(index))
          const published = broker.log(OUTCOME_EVENTS_STREAM)
          return new OutcomePublisher({
            ...shared,
            source,
            index,
            published,
            registrationIdOf: options.registrationIdOf,
          })
        })
        return startAll(steps, metrics)
      })
    }
    if (settings.webhooks) {
      // Created before the lease is held, so that an invalid setting ends the start.
      const guard = new AddressGuard(options.webhooks.allowedNetworks)
      await started.underLease('webhooks', async () => {
        const { retryMs, drainMs } = settings
        const shared = { broker, clock, random, log, metrics, feeds, states, secrets, retryMs, drainMs }
        const webhooks = new Webhooks({ ...shared, guard, settings: options.webhooks })
        webhooks.start()
        return webhooks
      })
    }
    return started
  } catch (error) {
    await started.stop()
    throw error
  }
}

/** Starts all publishers. If one fails, stops the others. */
async function startAll(steps: OutcomePublisher[], metrics: CoreMetrics): Promise<Stoppable> {
  const running: Stoppable[] = []
  const stop = async () => {
    await Promise.all(running.map((step) => step.stop()))
  }
  try {
    for (const [index, step] of steps.entries()) {
      await step.start()
      running.push(
        watched(metrics, step, { name: `publish.${index}`, inflight: () => step.inflight, lag: () => step.lag() }),
      )
    }
    return { stop }
  } catch (error) {
    await stop()
    throw error
  }
}
