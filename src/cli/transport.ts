/** `borealis transport`: a transport instance, that is, a supervisor and its workers. Each is a process of this command. */
import { type ChildProcess, spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { Command, Option } from 'commander'
import { systemClock } from '../clock.js'
import type { Config } from '../config/config.js'
import { connect } from '../nats/connect.js'
import { requirePermissions } from '../nats/server/probe.js'
import { createLogger, type Logger } from '../observe/log.js'
import { snapshotOf } from '../observe/merge.js'
import { createMetrics, serveMetrics } from '../observe/metrics.js'
import { StopStack } from '../stop-stack.js'
import { checkStoreFormat } from '../store/format.js'
import { checkTransportKeys } from '../store/keyring-record.js'
import { serveAdmin } from '../transport/supervisor/admin-port.js'
import { InstanceMetrics } from '../transport/supervisor/instance-metrics.js'
import { listenToSupervisor, sendToSupervisor } from '../transport/supervisor/ipc.js'
import { startSupervisor } from '../transport/supervisor/supervisor.js'
import { startWorker } from '../transport/supervisor/worker-process.js'
import { type DrainPace, drainMsMax } from '../transport/upkeep/drain.js'
import { loadConfig, logServiceLinks } from './context.js'
import { readTransportKeys, transportFileOf } from './keyring-file.js'
import { followKeyring } from './keyring-reload.js'
import { runService, type Service } from './service.js'
import { notifySystemd, watchdog } from './systemd.js'
import { v8Flags } from './v8-flags.js'
import { version } from './version.js'

/**
 * Margin beyond the time of a drain. It exceeds the supervisor's margin, so that the supervisor kills a stuck worker
 * first.
 */
const STUCK_MS = 10_000

/** `borealis transport`: a supervisor and its workers. Each worker is a process of this same command. */
export const transportCommand = new Command('transport')
  .description('run a transport instance: the connections of devices')
  .addOption(new Option('--worker <index>', 'run as this worker of an instance (set by the supervisor)').hideHelp())
  .action(async (options: { worker?: string }, command: Command) => {
    const config = loadConfig(command)
    const { config: file } = command.optsWithGlobals<{ config?: string }>()
    const index = options.worker === undefined ? null : Number(options.worker)
    const log = createLogger(index === null ? 'transport' : `transport/${index}`, config.log)
    if (index === null) logServiceLinks(log)
    const stopMsMax = config.transport.drainDelayMs + drainMsMax(config.transport) + STUCK_MS
    await runService(log, () => (index === null ? supervise(config, file, log) : work(config, index, log)), stopMsMax)
  })

async function supervise(config: Config, file: string | undefined, log: Logger): Promise<Service> {
  await checkKeys(config, log)
  const stops = new StopStack()
  try {
    const metrics = new InstanceMetrics()
    const supervisor = await startSupervisor({
      metrics,
      settings: config.transport,
      clock: systemClock,
      random: Math.random,
      log,
      spawn: (index, port, workers) => spawnWorker(index, { port, workers }, file),
    })
    stops.add(() => supervisor.stop())
    if (config.metrics.port > 0) {
      const server = await serveMetrics(metrics, config.metrics, () => supervisor.isReady)
      // Stopped last, because a load balancer sees here that the instance is draining.
      stops.addFirst(() => server.stop())
    }
    let drain = (_why: string) => {}
    const asked = new Promise<string>((resolve) => {
      drain = resolve
    })
    const reload = async () => {
      readTransportKeys(config.keyring)
      await supervisor.reload()
    }
    if (config.admin.port > 0) {
      const admin = await serveAdmin(config.admin, {
        isReady: () => supervisor.isReady,
        status: () => supervisor.status(),
        restart: () => supervisor.rollingRestart(),
        reload,
        drain: () => drain('the admin port'),
      })
      // Stopped last, because it shows the progress of the drain.
      stops.addFirst(() => admin.stop())
    }
    const ready = { port: supervisor.port, workers: supervisor.workers }
    const endWatchdog = watchdog(log)
    await notifySystemd(log, 'READY=1')
    const stop = async () => {
      endWatchdog()
      await notifySystemd(log, 'STOPPING=1')
      await stops.stop()
    }
    return { ready, asked, reload, stop }
  } catch (error) {
    return stops.abandon(error)
  }
}

/** Before the workers start: a wrong keyring gives one error instead of one from each worker. */
async function checkKeys(config: Config, log: Logger): Promise<void> {
  const keys = readTransportKeys(config.keyring)
  const file = transportFileOf(config.keyring)
  if (!keys.keyring) {
    log.warn(
      { file },
      'the extract is of release 0.1 and does not name its keyring: make it anew (borealis keyring extract)',
    )
  }
  const broker = await connect(config.nats, { name: 'transport', log })
  try {
    await checkTransportKeys(broker, keys, file)
  } finally {
    await broker.close()
  }
}

function spawnWorker(
  index: number,
  { port, workers }: { port: number; workers: number },
  file: string | undefined,
): ChildProcess {
  const program = fileURLToPath(new URL('../cli.js', import.meta.url))
  const global = file === undefined ? [] : ['--config', file]
  return spawn(process.execPath, [...v8Flags('worker'), program, ...global, 'transport', '--worker', String(index)], {
    env: {
      ...process.env,
      BOREALIS_TRANSPORT_PORT: String(port),
      BOREALIS_TRANSPORT_WORKERS: String(workers),
    },
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  })
}

async function work(config: Config, index: number, log: Logger): Promise<Service> {
  const stops = new StopStack()
  try {
    const keys = readTransportKeys(config.keyring)
    const metricsRegistry = createMetrics('transport')
    // The last step: the instance keeps the counts of a worker that has ended.
    stops.add(async () => {
      sendToSupervisor(process, { finalMetrics: await snapshotOf(metricsRegistry) })
    })
    const broker = await connect(config.nats, { name: `transport-${index}`, log, mayCreateConsumers: false })
    stops.add(() => broker.close())
    const { instance } = config.transport
    const user = { role: 'transport', instance, user: config.nats.user, password: '' } as const
    await requirePermissions(broker, user, config.store.split)
    await checkStoreFormat(broker, version())
    await checkTransportKeys(broker, keys, transportFileOf(config.keyring))
    const { transport, store, auth } = config
    const worker = await startWorker({
      broker,
      clock: systemClock,
      settings: transport,
      split: store.split,
      keys,
      issuer: auth.issuer,
      index,
      log,
      metricsRegistry,
    })
    const follow = followKeyring(broker, log, async () => worker.useKeys(readTransportKeys(config.keyring)))
    stops.add(async () => follow.stop())
    // A notice may have come before.
    await follow.reload()
    let pace: DrainPace | undefined
    let devicesElsewhere: number | null = null
    // A worker that has lost a permission takes no further devices. Those that it has may move when they reconnect.
    let wasAble = true
    broker.onStatus(() => {
      const isAble = broker.denied().length === 0
      if (isAble === wasAble) return
      wasAble = isAble
      if (!isAble) log.error({ denied: broker.denied() }, 'this worker lacks NATS permissions: it takes no devices')
      worker.worker.setListening(isAble).catch((error: unknown) => log.error({ error, isAble }, 'cannot listen again'))
    })
    stops.add(() => worker.stop(pace, () => devicesElsewhere))
    const answers = {
      levels: () => worker.worker.levels(),
      sessions: () => worker.worker.registry.size,
      metrics: () => snapshotOf(metricsRegistry),
      reload: async () => {
        await worker.reload(readTransportKeys(config.keyring))
        return null
      },
    }
    const asked = listenToSupervisor(process, answers, {
      setListening: (isListening) => {
        worker.worker
          .setListening(isListening)
          .catch((error: unknown) => log.error({ error, isListening }, 'cannot listen again'))
      },
      setDevicesElsewhere: (devices) => {
        devicesElsewhere = devices
      },
    }).then((given) => {
      pace = given
      return `the supervisor (${given.reason})`
    })
    const stop = () => stops.stop()
    // SIGHUP to a process group reaches workers too. They ignore it, because the supervisor orders the reload.
    const reload = async () => undefined
    const stopMsMax = () => drainMsMax(pace ?? transport) + STUCK_MS
    return { ready: { worker: index, port: worker.port }, asked, reload, stop, stopMsMax }
  } catch (error) {
    return stops.abandon(error)
  }
}
