/** One message to one device, acknowledged: what a delivery costs a worker, beside bare uWebSockets.js. */
import Type, { type Static } from 'typebox'
import { bareDevices, startBare } from '../baselines/bare.js'
import { BareFeed } from '../baselines/bare-feed.js'
import { startPlainNats } from '../baselines/plain-nats.js'
import { CONTENT_BYTES } from '../content.js'
import { type Drive, type Driven, drained, driveMax, driveRate, Sequences } from '../drive.js'
import type { Generators } from '../generator/generators.js'
import { LatencyMs, latencyMs } from '../measure/latency.js'
import { cpuMicrosOf } from '../measure/processes.js'
import { median, significant } from '../measure/stats.js'
import { BenchRouter } from '../router.js'
import { type Bench, defineScenario } from '../scenario.js'
import { locate } from '../system/fleet.js'
import { devicesOf, startTransport } from '../system/transport-only.js'
import { BARE_CONNECTIONS_MAX, connections, generators, rounds, workers } from './options.js'

const Options = Type.Object({
  connections: connections(),
  rate: Type.Union([Type.Literal('max'), Type.Integer({ minimum: 1, maximum: 1_000_000 })], {
    default: 'max',
    description: 'messages a second; max: as many as come back, then half of it for the latencies',
  }),
  seconds: Type.Integer({
    default: 10,
    minimum: 1,
    maximum: 600,
    description: 'of sending to each side, all rounds together',
  }),
  rounds: rounds(),
  window: Type.Integer({
    default: 2_000,
    minimum: 1,
    maximum: 65_536,
    description: 'with --rate max: messages under way',
  }),
  workers,
  generators,
})
type Options = Static<typeof Options>

const Round = Type.Object({
  deliveredPerSecond: Type.Number(),
  cpuMicrosPerDelivery: Type.Number(),
})
type Round = Static<typeof Round>

const Result = Type.Object({
  connections: Type.Integer(),
  deliveredPerSecond: Type.Number(),
  bareDeliveredPerSecond: Type.Number(),
  /** At --rate; with max: at half of the maximum. */
  latencyMs: LatencyMs,
  bareLatencyMs: LatencyMs,
  latencyRatePerSecond: Type.Number(),
  workerCpuMicrosPerDelivery: Type.Number(),
  bareCpuMicrosPerDelivery: Type.Number(),
  /** CPU per delivery: the worker's by that of bare. */
  ratioToBare: Type.Number(),
  natsCpuMicrosPerDelivery: Type.Number(),
  frameBytes: Type.Integer(),
  contentBytes: Type.Integer(),
  sent: Type.Integer(),
  lost: Type.Integer(),
  duplicates: Type.Integer(),
  outcomes: Type.Record(Type.String(), Type.Integer()),
  rounds: Type.Array(Type.Object({ borealis: Round, bare: Round })),
})
type Result = Static<typeof Result>

/** One of the two that are compared. */
interface Side {
  label: string
  drive: Omit<Drive, 'seconds'>
  devices: Generators
  serverPids: number[]
}

export const unicast = defineScenario({
  name: 'unicast',
  summary: 'NOTIFY frames by way of tx, acknowledged by devices; worker CPU per delivery beside bare uWebSockets.js',
  options: Options,
  result: Result,
  run,
  show: (result) => [
    {
      side: 'borealis',
      'delivered/s': result.deliveredPerSecond,
      'CPU us/delivery': result.workerCpuMicrosPerDelivery,
      'p50 ms': result.latencyMs.p50,
      'p99 ms': result.latencyMs.p99,
    },
    {
      side: 'bare',
      'delivered/s': result.bareDeliveredPerSecond,
      'CPU us/delivery': result.bareCpuMicrosPerDelivery,
      'p50 ms': result.bareLatencyMs.p50,
      'p99 ms': result.bareLatencyMs.p99,
    },
    { side: `ratio ${result.ratioToBare}, lost ${result.lost}, duplicates ${result.duplicates}` },
  ],
})

async function run(bench: Bench, options: Options): Promise<Result> {
  const rig = await startTransport(bench, options)
  const devices = await devicesOf(bench, rig, { connections: options.connections, processes: options.generators })
  await devices.prepare()
  await devices.ramp({ count: options.connections, label: 'borealis' })
  const router = new BenchRouter(rig.fabric, rig.run, await locate(rig.fabric, rig, options.connections))
  bench.defer(() => router.stop())
  const bareCount = Math.min(options.connections, BARE_CONNECTIONS_MAX)
  const bare = await startBareSide(bench, options, bareCount)
  const sequences = new Sequences()
  const borealis: Side = {
    label: 'borealis',
    drive: { feed: router, connections: options.connections, sequences },
    devices,
    serverPids: rig.system.pids('worker'),
  }
  const natsPids = rig.system.pids('nats')

  const measured: { borealis: Round; bare: Round }[] = []
  const natsCpu: number[] = []
  for (let i = 0; i < options.rounds; i++) {
    bench.progress.bar('rounds', i, options.rounds)
    const natsBefore = cpuMicrosOf(natsPids)
    const { round, delivered } = await oneRound(borealis, options)
    natsCpu.push((cpuMicrosOf(natsPids) - natsBefore) / delivered)
    measured.push({ borealis: round, bare: (await oneRound(bare, options)).round })
  }
  const mine = medianRound(measured.map((one) => one.borealis))
  const floor = medianRound(measured.map((one) => one.bare))
  const latencyRate = options.rate === 'max' ? Math.max(1, Math.floor(mine.deliveredPerSecond / 2)) : options.rate
  bench.progress.say(`latencies at ${latencyRate} a second`)
  const latency = await latencyAt(borealis, latencyRate, options.seconds)
  const bareLatency = await latencyAt(bare, latencyRate, options.seconds)
  const totals = await devices.report()
  return {
    connections: options.connections,
    deliveredPerSecond: Math.round(mine.deliveredPerSecond),
    bareDeliveredPerSecond: Math.round(floor.deliveredPerSecond),
    latencyMs: latency,
    bareLatencyMs: bareLatency,
    latencyRatePerSecond: latencyRate,
    workerCpuMicrosPerDelivery: significant(mine.cpuMicrosPerDelivery),
    bareCpuMicrosPerDelivery: significant(floor.cpuMicrosPerDelivery),
    ratioToBare: significant(mine.cpuMicrosPerDelivery / floor.cpuMicrosPerDelivery, 3),
    natsCpuMicrosPerDelivery: significant(median(natsCpu)),
    frameBytes: router.frameBytes,
    contentBytes: CONTENT_BYTES,
    sent: router.sent,
    lost: router.sent - totals.delivered,
    duplicates: totals.duplicatesOnWire + totals.duplicatesSeenByApp,
    outcomes: router.outcomes,
    rounds: measured,
  }
}

async function startBareSide(bench: Bench, options: Options, count: number): Promise<Side> {
  const nats = await startPlainNats(bench)
  const server = await startBare(bench, { natsUrl: nats.url, topic: false })
  const devices = await bareDevices(bench, server, {
    connections: count,
    processes: options.generators,
    keepaliveMs: 0,
  })
  await devices.ramp({ count, label: 'bare' })
  const feed = await BareFeed.open(bench, nats.url)
  return {
    label: 'bare',
    drive: { feed, connections: count, sequences: new Sequences() },
    devices,
    serverPids: [server.pid],
  }
}

async function oneRound(side: Side, options: Options): Promise<{ round: Round; delivered: number }> {
  const drive = { ...side.drive, seconds: options.seconds / options.rounds }
  const answeredBefore = drive.feed.answered
  const before = cpuMicrosOf(side.serverPids)
  const driven = await (options.rate === 'max' ? driveMax(drive, options.window) : driveRate(drive, options.rate))
  await settle(side, driven, answeredBefore)
  const delivered = drive.feed.answered - answeredBefore
  const cpu = cpuMicrosOf(side.serverPids) - before
  return {
    round: { deliveredPerSecond: driven.answered / driven.seconds, cpuMicrosPerDelivery: cpu / delivered },
    delivered,
  }
}

async function latencyAt(side: Side, perSecond: number, seconds: number): Promise<LatencyMs> {
  await side.devices.newRound()
  const answeredBefore = side.drive.feed.answered
  const driven = await driveRate({ ...side.drive, seconds }, perSecond)
  await settle(side, driven, answeredBefore)
  return latencyMs((await side.devices.report()).latency)
}

/** What is missing afterwards shows as lost. */
async function settle(side: Side, driven: Driven, answeredBefore: number): Promise<void> {
  await drained(side.drive.feed, answeredBefore + driven.sent)
}

function medianRound(all: readonly Round[]): Round {
  return {
    deliveredPerSecond: median(all.map((one) => one.deliveredPerSecond)),
    cpuMicrosPerDelivery: median(all.map((one) => one.cpuMicrosPerDelivery)),
  }
}
