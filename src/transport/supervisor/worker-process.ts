/** Runs one worker on real sockets: the content of a worker process. */
import { hostname } from 'node:os'
import type { Clock } from '../../clock.js'
import { requireSuccessor, type TransportKeys } from '../../keyring.js'
import type { Broker } from '../../nats/broker.js'
import { LoopLag, lagMetric } from '../../observe/lag.js'
import type { Logger } from '../../observe/log.js'
import type { MetricsRegistry } from '../../observe/registry.js'
import { processorsAvailable } from '../../processors.js'
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
  /** The setting store.split. */
  split: number
  keys: TransportKeys
  /** The issuer of device tokens. */
  issuer: string
  /** The index of this worker in its instance, from 0. */
  index: number
  log: Logger
  /** The registry for the metrics of the worker. */
  metricsRegistry?: MetricsRegistry
}

export interface RunningWorker {
  readonly port: number
  readonly worker: Worker
  /** Replaces the keys. Throws KeyringError or RangeError, and keeps the present keys, if they cannot be used. */
  useKeys(keys: TransportKeys): void
  /** Replaces the keys and reads the certificate again. Rejects if one is invalid; then nothing has changed. */
  reload(keys: TransportKeys): Promise<void>
  /** Drains the worker, then stops it. See Worker.stop(). Without a pace it uses the settings. */
  stop(pace?: DrainPace, devicesElsewhere?: () => number | null): Promise<void>
}

/** Rejects if the worker cannot listen, NATS does not answer, or uWebSockets.js did not load. */
export async function startWorker(options: WorkerProcessOptions): Promise<RunningWorker> {
  const { broker, clock, settings, split, keys, issuer, index, log, metricsRegistry } = options
  const sockets = new Listener({
    ...settings,
    onError: (task, error) => log.error({ task, error }, 'a handler of the listener failed'),
  })
  const lag = new LoopLag(clock)
  const worker = new Worker({
    broker,
    clock,
    sockets,
    settings,
    split,
    keys,
    issuer,
    worker: workerId(index, clock.now()),
    connectionsMax: connectionsCap(settings.connectionsMax),
    descriptors: descriptorsOpen,
    // The supervisor sets the number of workers for each of them. It is 0 for a worker without a supervisor.
    coreShare: Math.min(1, processorsAvailable() / Math.max(1, settings.workers)),
    ...(globalThis.gc && { collectGarbage: globalThis.gc }),
    lagMs: () => lag.now(),
    place: { host: hostname(), pid: process.pid },
    log,
  })
  if (metricsRegistry) {
    registerWorkerMetrics(worker.metrics, () => worker.levels(), metricsRegistry)
    lagMetric(lag, metricsRegistry)
  }
  lag.start()
  const port = await worker.start()
  let present = keys
  const check = (newKeys: TransportKeys) => {
    if (present.keyring && newKeys.keyring) requireSuccessor(present.keyring, newKeys.keyring)
    checkKeys(newKeys, issuer)
  }
  const use = (newKeys: TransportKeys) => {
    const isNew = newKeys.keyring?.revision !== present.keyring?.revision
    worker.useKeys(newKeys)
    present = newKeys
    if (isNew) log.info({ ...newKeys.keyring }, 'new keys are in use')
  }
  return {
    port,
    worker,
    useKeys: (newKeys) => {
      check(newKeys)
      use(newKeys)
    },
    reload: async (newKeys) => {
      // The checks that can fail come before the first change.
      check(newKeys)
      await sockets.reloadTls()
      use(newKeys)
    },
    stop: async (pace, devicesElsewhere) => {
      await worker.stop(pace, devicesElsewhere)
      lag.stop()
    },
  }
}
