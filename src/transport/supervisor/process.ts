/** A worker on its real ports: what a worker process runs. */
import { cpus } from 'node:os'
import type { Clock } from '../../clock.js'
import type { TransportKeys } from '../../keyring.js'
import type { Broker } from '../../nats/broker.js'
import { LoopLag, lagMetric } from '../../observe/lag.js'
import type { Logger } from '../../observe/log.js'
import type { MetricsRegistry } from '../../observe/registry.js'
import { workerId } from '../../store/workers.js'
import { checkKeys } from '../admission/credentials.js'
import { connectionsCap, descriptorsOpen } from '../admission/descriptors.js'
import { registerWorkerMetrics } from '../metrics.js'
import type { TransportSettings } from '../settings.js'
import { Listener } from '../socket/listener.js'
import type { DrainPace } from '../upkeep/drain.js'
import { Worker } from '../worker.js'

export interface WorkerProcessOptions {
  broker: Broker
  clock: Clock
  settings: TransportSettings
  /** store.split */
  split: number
  keys: TransportKeys
  /** Issuer of device tokens. */
  issuer: string
  /** Which of the instance's workers it is; 0 and up. */
  index: number
  log: Logger
  /** Where its counters go. */
  metricsRegistry?: MetricsRegistry
}

export interface RunningWorker {
  readonly port: number
  readonly worker: Worker
  /** Other keys, and the certificate as it is now. Rejects where they are no good; then what was stays. */
  reload(keys: TransportKeys): Promise<void>
  /** Drains, then ends everything. Absent: at the pace of the settings. See Worker.stop(). */
  stop(pace?: DrainPace, elsewhere?: () => number | null): Promise<void>
}

/** Rejects where it cannot listen, NATS does not answer, or uWebSockets.js did not load. */
export async function startWorker(options: WorkerProcessOptions): Promise<RunningWorker> {
  const { settings, clock, index, log, metricsRegistry, ...rest } = options
  const sockets = new Listener({
    ...settings,
    onError: (what, error) => log.error({ what, error }, 'a handler of the listener failed'),
  })
  const lag = new LoopLag(clock)
  const worker = new Worker({
    ...rest,
    ...{ settings, clock, log, sockets, lagMs: () => lag.now() },
    worker: workerId(index, clock.now()),
    connectionsMax: connectionsCap(settings.connectionsMax),
    descriptors: descriptorsOpen,
    // Told to each worker by its supervisor; 0 where there is none, and so one worker.
    coreShare: Math.min(1, cpus().length / Math.max(1, settings.workers)),
    ...(globalThis.gc && { collectGarbage: globalThis.gc }),
  })
  if (metricsRegistry) {
    registerWorkerMetrics(worker.metrics, () => worker.levels(), metricsRegistry)
    lagMetric(lag, metricsRegistry)
  }
  lag.start()
  const port = await worker.start()
  return {
    ...{ port, worker },
    reload: async (keys) => {
      // All that may be refused comes before anything changes.
      checkKeys(keys, rest.issuer)
      await sockets.reloadTls()
      worker.useKeys(keys)
    },
    stop: async (pace, elsewhere) => {
      await worker.stop(pace, elsewhere)
      lag.stop()
    },
  }
}
