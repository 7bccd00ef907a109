/** `borealis core`: the HTTP API and the delivery steps. Any number of cores share one NATS. */
import { hostname } from 'node:os'
import { Command } from 'commander'
import { systemClock } from '../clock.js'
import type { Config } from '../config/config.js'
import { newRun } from '../core/cluster/running-parts.js'
import { startCore } from '../core/core.js'
import { CoreMetrics, registerCoreMetrics } from '../core/metrics.js'
import type { Keyring } from '../keyring.js'
import type { Broker } from '../nats/broker.js'
import { connect } from '../nats/connect.js'
import { requirePermissions } from '../nats/server/probe.js'
import { describeStream } from '../nats/server/snapshot.js'
import { ensureStreams, streamDefinitions } from '../nats/server/streams.js'
import { LoopLag, lagMetric } from '../observe/lag.js'
import { createLogger, type Logger } from '../observe/log.js'
import { createMetrics, serveMetrics } from '../observe/metrics.js'
import { StopStack } from '../stop-stack.js'
import { StoreFills } from '../store/fills.js'
import { checkStoreFormat, markStoreFormat, StoreFormatError } from '../store/format.js'
import { CoreReading } from '../store/keyring-readers.js'
import { checkKeyring, claimKeyring } from '../store/keyring-record.js'
import { loadConfig, logServiceLinks } from './context.js'
import { readKeyring } from './keyring-file.js'
import { followKeyring } from './keyring-reload.js'
import { runService, type Service } from './service.js'
import { version } from './version.js'

export const coreCommand = new Command('core')
  .description('run a core: the HTTP API and the delivery steps, in the roles that its settings give it')
  .action(async (_options, command: Command) => {
    const config = loadConfig(command)
    const log = createLogger('core', config.log)
    logServiceLinks(log)
    await runService(log, () => start(config, log))
  })

async function start(config: Config, log: Logger): Promise<Service> {
  const stops = new StopStack()
  try {
    const keyring = readKeyring(config.keyring.file)
    const broker = await connect(config.nats, { name: 'core', log, keepsHeadroom: true })
    stops.add(() => broker.close())
    const user = { role: 'core', user: config.nats.user, password: '' } as const
    await requirePermissions(broker, user, config.store.split)
    // Before the streams: an older version must not set those of a newer one back.
    await checkStoreFormat(broker, version())
    await refuseFirstStore(broker)
    await ensureStreams(broker.bus, config.store)
    await markStoreFormat(broker, version())
    const follow = await useKeyring(broker, config, keyring, log)
    stops.add(follow.stop)
    const metrics = new CoreMetrics()
    const registry = createMetrics('core')
    registerCoreMetrics(metrics, () => broker.connected(), registry)
    const lag = new LoopLag(systemClock)
    lagMetric(lag, registry)
    lag.start()
    stops.add(async () => lag.stop())
    const names = streamDefinitions(config.store).map(({ name }) => name)
    const fills = new StoreFills(broker, systemClock, names)
    metrics.fills = () => fills.report()
    await fills.start()
    stops.add(async () => fills.stop())
    let isReady = false
    if (config.metrics.port > 0) {
      const ready = () => isReady && broker.connected() && broker.denied().length === 0
      const server = await serveMetrics(registry, config.metrics, ready, () => ({ store: fills.report() }))
      stops.add(() => server.stop())
    }
    const { core: roles, http, auth, messages, devices, ingress, limits, adminApi, webhooks, store } = config
    const core = await startCore({
      broker,
      clock: systemClock,
      random: Math.random,
      settings: { core: roles, http, auth, messages, devices, ingress, limits, adminApi, webhooks, split: store.split },
      keyring,
      log,
      metrics,
    })
    isReady = true
    stops.add(() => {
      isReady = false
      return core.stop()
    })
    const ready = {
      node: core.node,
      ...(core.url === null ? {} : { api: core.url }),
      ...(core.adminUrl === null ? {} : { adminApi: core.adminUrl }),
    }
    return { ready, reload: follow.reload, stop: () => stops.stop() }
  } catch (error) {
    return stops.abandon(error)
  }
}

/** Says to operators which keys this core has, and follows their changes. Rejects if the keyring does not fit the store. */
async function useKeyring(broker: Broker, config: Config, keyring: Keyring, log: Logger) {
  const { file } = config.keyring
  const reading = new CoreReading(broker, systemClock, {
    ...{ run: newRun(systemClock, Math.random), host: hostname(), pid: process.pid, mark: () => keyring.mark },
    onError: (error) => log.warn({ error }, 'the keys in use could not be told'),
  })
  const { reload, stop } = followKeyring(broker, log, async () => {
    const { revision } = keyring.mark
    keyring.use(readKeyring(file))
    if (keyring.mark.revision !== revision) log.info(keyring.mark, 'new keys are in use')
    await reading.tell()
  })
  await claimKeyring(broker, keyring, file, systemClock.now())
  await reading.start()
  // A change that came before this core was seen.
  await reload()
  await checkKeyring(broker, keyring, file)
  return {
    reload,
    stop: async () => {
      stop()
      await reading.stop()
    },
  }
}

/** A store of 0.1.0 has its queues in streams of other names, and no format: nobody would ever read them. */
async function refuseFirstStore({ bus }: Broker): Promise<void> {
  if ((await describeStream(bus, 'PARKED_0')) === null) return
  throw new StoreFormatError(
    'this is a store of Borealis 0.1.0, which this version cannot carry over: let 0.1.0 empty its queues, or begin with ' +
      'an empty store (CHANGELOG.md)',
  )
}
