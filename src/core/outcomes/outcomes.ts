/** What tells app servers of the ends of their messages, as one part of a core process: steps under leases. */
import { APP_EVENTS_STREAM, Bucket, eventsStream } from '../../../protocol/subjects.js'
import type { Clock } from '../../clock.js'
import type { Fabric } from '../../nats/broker.js'
import type { Logger } from '../../observe/log.js'
import { EventLog } from '../../store/events.js'
import { FeedStates } from '../../store/feeds.js'
import type { Stoppable } from '../cluster/lease.js'
import { newRun, Started, watched } from '../cluster/running-parts.js'
import type { StatusOptions } from '../delivery/query/status.js'
import type { CoreFigures } from '../metrics.js'
import type { CoreSettings } from '../settings.js'
import { FeedDirectory } from './feed-directory.js'
import { NotifyStep } from './publish.js'
import { AddressGuard } from './webhooks/addresses.js'
import type { WebhookSettings } from './webhooks/settings.js'
import { Webhooks } from './webhooks/webhooks.js'

export interface FeedsOptions {
  fabric: Fabric
  clock: Clock
  /** 0 up to 1, as Math.random. */
  random: () => number
  settings: Pick<
    CoreSettings,
    'notifying' | 'webhooks' | 'notifyInHandMax' | 'leaseMs' | 'checkpointMs' | 'retryMs' | 'drainMs'
  >
  webhooks: WebhookSettings
  /** store.split */
  split: number
  log: Logger
  figures: CoreFigures
  registrationIdOf: StatusOptions['registrationIdOf']
}

/** Rejects with FabricError where the store is away, RangeError where `webhooks.allowedNetworks` is no such list; then nothing is left running. */
export async function startFeeds(options: FeedsOptions): Promise<Stoppable> {
  const { fabric, clock, random, settings, split, log, figures } = options
  const run = newRun(clock, random)
  const leases = { table: fabric.table(Bucket.CORES), clock, holder: run, leaseMs: settings.leaseMs }
  const started = new Started(leases, log)
  try {
    const feeds = await new FeedDirectory().start(fabric, log)
    started.add(feeds)
    const states = new FeedStates(fabric)
    const events = new EventLog(fabric, split, run)
    if (settings.notifying) {
      await started.underLease('notify', () => {
        const { checkpointMs, retryMs, notifyInHandMax: inHandMax } = settings
        const shared = { clock, log, figures, events, feeds, states, checkpointMs, retryMs, inHandMax }
        const steps = Array.from({ length: split }, (_, index) => {
          const source = fabric.log(eventsStream(index))
          const told = fabric.log(APP_EVENTS_STREAM)
          return new NotifyStep({ ...shared, source, index, told, registrationIdOf: options.registrationIdOf })
        })
        return startAll(steps, figures)
      })
    }
    if (settings.webhooks) {
      // Here, so that a wrong setting is told at the start, and not by each process that gets the lease.
      const guard = new AddressGuard(options.webhooks.allowedNetworks)
      await started.underLease('webhooks', async () => {
        const { retryMs, drainMs } = settings
        const shared = { fabric, clock, random, log, figures, feeds, states, retryMs, drainMs }
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

/** All or none. */
async function startAll(steps: NotifyStep[], figures: CoreFigures): Promise<Stoppable> {
  const running: Stoppable[] = []
  const stop = async () => {
    await Promise.all(running.map((step) => step.stop()))
  }
  try {
    for (const [index, step] of steps.entries()) {
      await step.start()
      running.push(
        watched(figures, step, { name: `notify.${index}`, inHand: () => step.inHand, lag: () => step.lag() }),
      )
    }
    return { stop }
  } catch (error) {
    await stop()
    throw error
  }
}
