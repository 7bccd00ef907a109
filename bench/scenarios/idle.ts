/** Measures the cost of a silent device: memory of the server and of the kernel, and CPU for keepalives. */
import { join } from 'node:path'
import Type, { type Static } from 'typebox'
import { bareDevices, startBare } from '../baselines/bare.js'
import { pause } from '../generator/generators.js'
import { kernelBytesEach, kernelMemory } from '../measure/kernel.js'
import { MemoryProbe } from '../measure/memory-probe.js'
import { preloadEnvironment } from '../measure/preload.js'
import { cpuMicrosOf, memorySum } from '../measure/processes.js'
import { significant } from '../measure/stats.js'
import { rampInSteps } from '../ramp-in-steps.js'
import { type Bench, defineScenario } from '../scenario.js'
import { devicesOf, startTransport } from '../system/transport-only.js'
import { connections, generators, workers } from './options.js'

const Options = Type.Object({
  connections: connections(),
  seconds: Type.Integer({
    default: 60,
    minimum: 1,
    maximum: 3_600,
    description: 'seconds without any traffic but keepalives',
  }),
  keepaliveSeconds: Type.Integer({
    default: 120,
    minimum: 5,
    maximum: 3_600,
    description: 'seconds between two keepalives of a device',
  }),
  steps: Type.Integer({
    default: 5,
    minimum: 3,
    maximum: 20,
    description: 'steps of the ramp after its first 30%; memory is read before the first step and after each',
  }),
  workers,
  generators,
})
type Options = Static<typeof Options>

const Result = Type.Object({
  connections: Type.Integer(),
  rampSeconds: Type.Number(),
  connectsPerSecond: Type.Number(),
  /** Slope over the steps of the ramp (least squares) of resident memory without garbage and V8's empty pages. */
  serverRssBytesPerConnection: Type.Number(),
  bareRssBytesPerConnection: Type.Number(),
  /** The part of it that is live JavaScript objects. */
  serverHeapBytesPerConnection: Type.Number(),
  bareHeapBytesPerConnection: Type.Number(),
  /** Null: with so few connections the bare side does not grow measurably. */
  ratioToBare: Type.Union([Type.Number(), Type.Null()]),
  /** For one end of a connection. Both ends are on this machine. */
  kernelBytesPerConnection: Type.Number(),
  generatorRssBytesPerConnection: Type.Number(),
  /** Cores that workers and supervisor use during the idle time. */
  idleCores: Type.Number(),
  natsIdleCores: Type.Number(),
  keepalives: Type.Integer(),
  serverRssBytes: Type.Integer(),
  unexpectedDisconnects: Type.Integer(),
})
type Result = Static<typeof Result>

export const idle = defineScenario({
  name: 'idle',
  summary:
    'silent devices with full sessions: memory per connection relative to bare uWebSockets.js, and CPU for keepalives',
  options: Options,
  result: Result,
  run,
  headline: [
    'serverRssBytesPerConnection',
    'serverHeapBytesPerConnection',
    'ratioToBare',
    'generatorRssBytesPerConnection',
    'idleCores',
    'natsIdleCores',
    'connectsPerSecond',
    'unexpectedDisconnects',
  ],
})

async function run(bench: Bench, options: Options): Promise<Result> {
  const keepaliveMs = options.keepaliveSeconds * 1000
  const memoryProbe = new MemoryProbe(join(bench.folder, 'memory'))
  const rig = await startTransport(bench, {
    ...options,
    settings: { transport: { keepaliveMs } },
    environment: preloadEnvironment(memoryProbe),
  })
  const devices = await devicesOf(bench, rig, { connections: options.connections, processes: options.generators })
  await devices.prepare()
  const { system } = rig
  const workerPids = system.pids('worker')
  const before = kernelMemory()
  const generatorBefore = memorySum(devices.pids).pssBytes
  const ramp = await rampInSteps(bench.progress, {
    ...options,
    devices,
    label: 'borealis',
    readMemory: () => memoryProbe.read(workerPids),
  })
  const kernel = kernelBytesEach(before, kernelMemory(), options.connections) / SOCKETS_PER_CONNECTION
  const generatorEach = (memorySum(devices.pids).pssBytes - generatorBefore) / options.connections

  bench.progress.say(`idle for ${options.seconds} s`)
  const servers = [...system.pids('transport'), ...workerPids]
  const cpuBefore = cpuMicrosOf(servers)
  const natsBefore = cpuMicrosOf(system.pids('nats'))
  const startedMs = performance.now()
  for (let second = 1; second <= options.seconds; second++) {
    await pause(startedMs + second * 1000 - performance.now())
    bench.progress.bar('idle', second, options.seconds, 's')
  }
  const elapsedMicros = (performance.now() - startedMs) * 1000
  const idleCores = (cpuMicrosOf(servers) - cpuBefore) / elapsedMicros
  const natsIdleCores = (cpuMicrosOf(system.pids('nats')) - natsBefore) / elapsedMicros
  const totals = await devices.report()
  const { rssBytes } = memorySum(servers)
  await devices.stop()

  const server = await startBare(bench, { natsUrl: null, topic: false }, memoryProbe)
  const { connections, generators: processes } = options
  const bare = await bareDevices(bench, server, { connections, processes, keepaliveMs })
  const bareRamp = await rampInSteps(bench.progress, {
    ...options,
    connections: bare.connections,
    devices: bare,
    label: 'bare',
    readMemory: () => memoryProbe.read([server.pid]),
  })
  return {
    connections: totals.ready,
    rampSeconds: significant(ramp.seconds),
    connectsPerSecond: Math.round(options.connections / ramp.seconds),
    serverRssBytesPerConnection: Math.round(ramp.bytesEach),
    bareRssBytesPerConnection: Math.round(bareRamp.bytesEach),
    serverHeapBytesPerConnection: Math.round(ramp.heapBytesEach),
    bareHeapBytesPerConnection: Math.round(bareRamp.heapBytesEach),
    ratioToBare: bareRamp.bytesEach > 0 ? significant(ramp.bytesEach / bareRamp.bytesEach, 3) : null,
    kernelBytesPerConnection: Math.round(kernel),
    generatorRssBytesPerConnection: Math.round(generatorEach),
    idleCores: significant(idleCores, 3),
    natsIdleCores: significant(natsIdleCores, 3),
    keepalives: totals.pongs,
    serverRssBytes: rssBytes,
    unexpectedDisconnects: totals.unexpectedDisconnects,
  }
}

const SOCKETS_PER_CONNECTION = 2
