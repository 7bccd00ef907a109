/** `borealis start`: the whole service on one machine, each part in a child process, with a sample device. */
import { Command } from 'commander'
import { systemClock } from '../clock.js'
import type { Config } from '../config/config.js'
import { authorityOf } from '../core/api/public-url.js'
import { connect } from '../nats/connect.js'
import { ensureStreams } from '../nats/server/streams.js'
import { createLogger } from '../observe/log.js'
import { StopStack } from '../stop-stack.js'
import { CommandError, loadConfig } from './context.js'
import { ensureKeyring } from './keyring-file.js'
import { runService, type Service } from './service.js'
import { Child } from './start/child.js'
import { DataFolder } from './start/folder.js'
import { endOrphan, type Nats, natsGiven, startNats, stopNats } from './start/nats.js'
import { Output } from './start/output.js'
import { claimPorts } from './start/ports.js'
import { ensureSample, mintSampleToken } from './start/sample.js'
import { sampleDevice } from './start/sample-device.js'
import { fitStore } from './start/storage.js'
import { summary, writeToolConfig } from './start/summary.js'

export const startCommand = new Command('start')
  .description('run everything on this machine: NATS, a core, a transport and a sample device')
  .action(async (_options, command: Command) => {
    const config = loadConfig(command)
    // Its own lines are plain text for people. Its log holds only warnings and errors.
    const log = createLogger('start', { ...config.log, level: config.log.level === 'info' ? 'warn' : config.log.level })
    await runService(log, () => startEverything(config), stopMsMax)
  })

/** Every part has its own, shorter limit, after which it is killed. This limit covers unforeseen delays. */
const stopMsMax = 60_000
/** A person at the terminal waits after Ctrl-C, so the drain is short. */
const drainMsMax = 2_000

/** Parts stop in the reverse order of their start: device, transport, core, NATS. */
async function startEverything(config: Config): Promise<Service> {
  const output = new Output((text) => process.stdout.write(text), ['debug', 'trace'].includes(config.log.level))
  const stops = new StopStack()
  const gaveUp = failure()
  try {
    const folder = DataFolder.claim(config.start.dataFolder)
    stops.add(async () => folder.release())
    await endOrphan(folder, output.notice)
    const ports = await choosePorts(config)
    const fitted = fitStore(config.store, folder.path)
    if (fitted.notice !== null && !process.env.NATS_URL) output.notice(fitted.notice)
    const nats = await openNats(config, folder, ports.nats, fitted.fileBytesMax, output)
    const storage = nats.server === null ? { store: config.store, environment: {} } : fitted
    stops.add(() => stopNats(nats))

    output.step('keys, streams and the sample project')
    const keyringFile = folder.file('keyring.json')
    const keyring = ensureKeyring(keyringFile, systemClock.now())
    const admin = await connect(nats.settingsAs('admin'), { name: 'start' })
    stops.add(() => admin.close())
    await ensureStreams(admin.bus, storage.store)
    const sample = await ensureSample(admin, folder)

    const transportUrl = `ws://${authorityOf(config.transport.host, ports.transport)}/v1/device`
    const shared = { BOREALIS_KEYRING_FILE: keyringFile, BOREALIS_LOG_FORMAT: 'json' }
    const part = (name: string, environment: Record<string, string>) =>
      new Child({
        name,
        args: [name],
        environment: { ...shared, ...environment },
        onLine: (line) => output.part(name, line),
        onNotice: output.notice,
        onLost: gaveUp.because,
      })

    output.step('core')
    const core = part('core', {
      ...nats.environmentAs('core'),
      ...storage.environment,
      BOREALIS_HTTP_PORT: String(ports.http),
      BOREALIS_AUTH_TRANSPORT_URL: transportUrl,
      BOREALIS_METRICS_PORT: String(ports.coreMetrics),
    })
    stops.add(() => core.stop())
    await core.start()

    output.step('transport')
    const transport = part('transport', {
      ...nats.environmentAs('transport'),
      BOREALIS_TRANSPORT_PORT: String(ports.transport),
      BOREALIS_TRANSPORT_DRAIN_MS: String(Math.min(config.transport.drainMs, drainMsMax)),
      BOREALIS_METRICS_PORT: String(ports.transportMetrics),
    })
    stops.add(() => transport.stop())
    await transport.start()

    const apiUrl = `http://${authorityOf(config.http.host, ports.http)}`
    writeToolConfig(folder, { nats: nats.settingsAs('admin'), keyringFile, sample, apiUrl, auth: config.auth })
    let registrationId: string | null = null
    if (config.start.device) {
      output.step('sample device')
      const device = sampleDevice({ folder, sample, apiUrl, transportUrl, output, onLost: gaveUp.because })
      stops.add(() => device.stop())
      registrationId = String((await device.start()).registrationId)
    }
    const token = await mintSampleToken(admin, keyring, config.auth)
    const metricsUrls = [ports.coreMetrics, ports.transportMetrics]
      .filter((port) => port !== 0)
      .map((port) => `http://${authorityOf(config.metrics.host, port)}/metrics`)
    output.text(
      summary({ folder, apiUrl, transportUrl, natsUrl: nats.url, metricsUrls, sample, token, registrationId }),
    )
    return {
      ready: { api: apiUrl, devices: transportUrl, nats: nats.url },
      failed: gaveUp.promise,
      stop: () => stopTold(stops, output),
    }
  } catch (error) {
    return stops.abandon(error)
  }
}

async function stopTold(stops: StopStack, output: Output): Promise<void> {
  output.step('stopping: device, transport, core, NATS')
  await stops.stop()
  output.step('stopped')
}

interface Ports {
  http: number
  transport: number
  /** 0: none. */
  coreMetrics: number
  /** The port after that of the core; 0: none. */
  transportMetrics: number
  nats: number
}

async function choosePorts(config: Config): Promise<Ports> {
  const { http, transport, metrics, start } = config
  const wish = (host: string, port: number, setting: string, variable: string) => ({ host, port, setting, variable })
  const metricsWish = (port: number) => wish(metrics.host, port, 'metrics.port', 'BOREALIS_METRICS_PORT')
  const ownNats = !process.env.NATS_URL
  const hasMetrics = metrics.port !== 0
  const [httpPort = 0, transportPort = 0, ...more] = await claimPorts([
    wish(http.host, http.port, 'http.port', 'BOREALIS_HTTP_PORT'),
    wish(transport.host, transport.port, 'transport.port', 'BOREALIS_TRANSPORT_PORT'),
    ...(hasMetrics ? [metricsWish(metrics.port), metricsWish(metrics.port + 1)] : []),
    ...(ownNats ? [wish('127.0.0.1', start.natsPort, 'start.natsPort', 'BOREALIS_START_NATS_PORT')] : []),
  ])
  const [coreMetrics = 0, transportMetrics = 0] = hasMetrics ? more.splice(0, 2) : []
  const [natsPort = 0] = more
  return { http: httpPort, transport: transportPort, coreMetrics, transportMetrics, nats: natsPort }
}

function openNats(
  config: Config,
  folder: DataFolder,
  port: number,
  fileBytesMax: number,
  output: Output,
): Promise<Nats> {
  if (process.env.NATS_URL) {
    output.step('using the NATS that NATS_URL names')
    return Promise.resolve(natsGiven(config))
  }
  output.step('nats-server')
  return startNats(config, folder, port, output.notice, fileBytesMax)
}

function failure(): { promise: Promise<never>; because: (reason: string) => void } {
  let because: (reason: string) => void = () => undefined
  const promise = new Promise<never>((_resolve, reject) => {
    because = (reason) => reject(new CommandError(`${reason}: everything was stopped`))
  })
  // runService listens to it. If the start itself fails first, nobody does.
  promise.catch(() => undefined)
  return { promise, because }
}
