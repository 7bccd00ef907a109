/** Measures the whole way of a push, from HTTP to the acknowledgement of the device, on one machine. */
import Type, { type Static } from 'typebox'
import type { Generators } from '../generator/generators.js'
import { pause } from '../generator/generators.js'
import { LatencyMs, latencyMs } from '../measure/latency.js'
import { cpuMicrosOf } from '../measure/processes.js'
import { significant } from '../measure/stats.js'
import { nowMicros } from '../micros.js'
import { Pusher, pushAtRate } from '../pusher.js'
import { type Bench, defineScenario } from '../scenario.js'
import { startWhole, type WholeRig } from '../system/whole.js'
import { connections, generators, workers } from './options.js'

const Options = Type.Object({
  connections: connections(5_000),
  rate: Type.Union([Type.Literal('max'), Type.Integer({ minimum: 1, maximum: 1_000_000 })], {
    default: 'max',
    description: 'messages a second; max: as fast as they are delivered, then latencies at half of that rate',
  }),
  seconds: Type.Integer({
    default: 15,
    minimum: 1,
    maximum: 600,
    description: 'seconds of pushing, for the rate and again for the latencies',
  }),
  batch: Type.Integer({
    default: 100,
    minimum: 1,
    maximum: 1_000,
    description: 'number of targets of one HTTP request',
  }),
  window: Type.Integer({
    default: 4_000,
    minimum: 1,
    maximum: 100_000,
    description: 'with --rate max: number of messages that are sent and not delivered yet',
  }),
  workers,
  generators,
})
type Options = Static<typeof Options>

const Cpu = Type.Object({ core: Type.Number(), nats: Type.Number(), worker: Type.Number(), generator: Type.Number() })

const Result = Type.Object({
  connections: Type.Integer(),
  acceptedPerSecond: Type.Number(),
  deliveredPerSecond: Type.Number(),
  /** At --rate; with max, at half of the maximum. */
  latencyMs: LatencyMs,
  latencyRatePerSecond: Type.Number(),
  cpuMicrosPerMessage: Cpu,
  sent: Type.Integer(),
  retried: Type.Integer(),
  lost: Type.Integer(),
  duplicates: Type.Integer(),
  duplicatesSeenByApp: Type.Integer(),
})
type Result = Static<typeof Result>

export const pipeline = defineScenario({
  name: 'pipeline',
  summary: 'pushes from HTTP to the acknowledgement of the device: rate, latency, CPU of each part',
  options: Options,
  result: Result,
  run,
  headline: [
    'acceptedPerSecond',
    'deliveredPerSecond',
    'cpuMicrosPerMessage.core',
    'cpuMicrosPerMessage.nats',
    'cpuMicrosPerMessage.worker',
    'latencyMs.p50',
    'latencyMs.p99',
    'lost',
    'duplicatesSeenByApp',
  ],
})

const POLL_MS = 10
/** Long enough for redelivery, and for messages that were queued because a device was silent. */
const DELIVERY_MS_MAX = 45_000
const WARM_UP_BATCHES = 20

async function run(bench: Bench, options: Options): Promise<Result> {
  const rig = await startWhole(bench, options)
  const { devices, system } = rig
  await devices.ramp({ count: options.connections })
  const pusher = new Pusher(rig, options)
  bench.defer(() => pusher.stop())
  // Warms up: V8 compiles the code before the measurement.
  for (let i = 0; i < WARM_UP_BATCHES; i++) await pusher.push(nowMicros())
  await untilDelivered(devices, pusher)

  const parts = {
    core: system.pids('core'),
    nats: system.pids('nats'),
    worker: system.pids('worker'),
    generator: [...devices.pids, process.pid],
  }
  const before = Object.fromEntries(Object.entries(parts).map(([name, pids]) => [name, cpuMicrosOf(pids)]))
  const deliveredBefore = (await devices.counts()).delivered
  const flow = await (options.rate === 'max'
    ? pushMax(bench, devices, pusher, options)
    : pushRate(devices, pusher, options, options.rate))
  await untilDelivered(devices, pusher)
  const delivered = (await devices.counts()).delivered - deliveredBefore
  const cpu = Object.fromEntries(
    Object.entries(parts).map(([name, pids]) => [
      name,
      significant((cpuMicrosOf(pids) - (before[name] ?? 0)) / delivered),
    ]),
  ) as Static<typeof Cpu>

  const rate = options.rate === 'max' ? Math.max(1, Math.floor(flow.deliveredPerSecond / 2)) : options.rate
  if (options.rate === 'max') {
    bench.progress.say(`latencies at ${rate} messages a second`)
    await devices.newRound()
    await pushRate(devices, pusher, options, rate)
    await untilDelivered(devices, pusher)
  }
  const totals = await devices.report()
  return {
    connections: options.connections,
    acceptedPerSecond: Math.round(flow.acceptedPerSecond),
    deliveredPerSecond: Math.round(flow.deliveredPerSecond),
    latencyMs: latencyMs(totals.latency),
    latencyRatePerSecond: rate,
    cpuMicrosPerMessage: cpu,
    sent: pusher.sent,
    retried: pusher.retried,
    lost: pusher.accepted - totals.delivered,
    duplicates: totals.duplicatesOnWire,
    duplicatesSeenByApp: totals.duplicatesSeenByApp,
  }
}

interface Flow {
  acceptedPerSecond: number
  deliveredPerSecond: number
}

/** Keeps `window` messages between HTTP and the devices. */
async function pushMax(bench: Bench, devices: Generators, pusher: Pusher, options: Options): Promise<Flow> {
  const { seconds, window, batch } = options
  const start = { atMs: performance.now(), accepted: pusher.accepted, ...(await devices.counts()) }
  const failures: unknown[] = []
  let elapsedSeconds = 0
  while (elapsedSeconds < seconds && failures.length === 0) {
    const { delivered } = await devices.counts()
    while (pusher.sent - delivered + batch <= Math.max(window, batch)) {
      pusher.push(nowMicros()).catch((error: unknown) => failures.push(error))
    }
    await pause(POLL_MS)
    elapsedSeconds = (performance.now() - start.atMs) / 1000
    bench.progress.bar('pushing', Math.min(elapsedSeconds, seconds), seconds, 's')
  }
  if (failures.length > 0) throw failures[0]
  const end = await devices.counts()
  return {
    acceptedPerSecond: (pusher.accepted - start.accepted) / elapsedSeconds,
    deliveredPerSecond: (end.delivered - start.delivered) / elapsedSeconds,
  }
}

async function pushRate(
  devices: Generators,
  pusher: Pusher,
  { seconds, batch }: Options,
  perSecond: number,
): Promise<Flow> {
  const start = { atMs: performance.now(), accepted: pusher.accepted, ...(await devices.counts()) }
  await pushAtRate(pusher, batch, { perSecond, seconds })
  const elapsedSeconds = (performance.now() - start.atMs) / 1000
  const end = await devices.counts()
  return {
    acceptedPerSecond: (pusher.accepted - start.accepted) / elapsedSeconds,
    deliveredPerSecond: (end.delivered - start.delivered) / elapsedSeconds,
  }
}

/** Waits for outstanding deliveries. Messages that stay undelivered count as lost. */
async function untilDelivered(devices: WholeRig['devices'], pusher: Pusher): Promise<void> {
  await devices.until(({ delivered }) => delivered >= pusher.accepted && pusher.inFlight === 0, DELIVERY_MS_MAX)
}
