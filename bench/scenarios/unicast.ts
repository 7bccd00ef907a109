/** Measures the cost of one acknowledged delivery to one device, for a worker and for bare uWebSockets.js. */
import Type, { type Static } from 'typebox'
import { CONTENT_BYTES } from '../content.js'
import { LatencyMs } from '../measure/latency.js'
import { median, significant } from '../measure/stats.js'
import { latencyAt, type UnicastRound, unicastRound } from '../rounds.js'
import { type Bench, defineScenario } from '../scenario.js'
import { baselineSide, borealisSide } from '../sides.js'
import { connections, generators, rate, rounds, window, workers } from './options.js'

const Options = Type.Object({
  connections: connections(),
  rate: rate(', then latencies at half of that rate'),
  seconds: Type.Integer({
    default: 10,
    minimum: 1,
    maximum: 600,
    description: 'seconds of sending to each side, over all rounds',
  }),
  rounds: rounds(),
  window,
  workers,
  generators,
})
type Options = Static<typeof Options>

const Round = Type.Object({
  deliveredPerSecond: Type.Number(),
  cpuMicrosPerDelivery: Type.Number(),
  behindCpuMicrosPerDelivery: Type.Number(),
})

const Result = Type.Object({
  connections: Type.Integer(),
  deliveredPerSecond: Type.Number(),
  bareDeliveredPerSecond: Type.Number(),
  /** At --rate; with max, at half of the maximum. */
  latencyMs: LatencyMs,
  bareLatencyMs: LatencyMs,
  latencyRatePerSecond: Type.Number(),
  workerCpuMicrosPerDelivery: Type.Number(),
  bareCpuMicrosPerDelivery: Type.Number(),
  /** CPU per delivery of the worker, relative to bare. */
  ratioToBare: Type.Number(),
  /** CPU of nats-server and of the supervisor. */
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

export const unicast = defineScenario({
  name: 'unicast',
  summary: 'acknowledged messages to single devices: rate, latency, and worker CPU relative to bare uWebSockets.js',
  options: Options,
  result: Result,
  run,
  headline: [
    'deliveredPerSecond',
    'workerCpuMicrosPerDelivery',
    'natsCpuMicrosPerDelivery',
    'bareCpuMicrosPerDelivery',
    'ratioToBare',
    'latencyMs.p50',
    'latencyMs.p99',
    'lost',
    'duplicates',
  ],
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
  const borealis = await borealisSide(bench, { ...options, registered: false })
  await borealis.devices.ramp({ count: options.connections, label: 'borealis' })
  const bare = await baselineSide(bench, 'uws', options)
  await bare.devices.ramp({ count: bare.connections, label: 'bare' })
  const feed = await borealis.feed()
  const bareFeed = await bare.feed()
  const round = { ...options, seconds: options.seconds / options.rounds }
  const measured: { borealis: UnicastRound; bare: UnicastRound }[] = []
  for (let i = 0; i < options.rounds; i++) {
    bench.progress.bar('rounds', i, options.rounds)
    measured.push({
      borealis: await unicastRound(borealis, feed, round),
      bare: await unicastRound(bare, bareFeed, round),
    })
  }
  const ours = (name: keyof UnicastRound) => median(measured.map((one) => one.borealis[name]))
  const bares = (name: keyof UnicastRound) => median(measured.map((one) => one.bare[name]))
  const half = Math.max(1, Math.floor(ours('deliveredPerSecond') / 2))
  const latencyRate = options.rate === 'max' ? half : options.rate
  bench.progress.say(`latencies at ${latencyRate} a second`)
  const latency = await latencyAt(borealis, feed, latencyRate, options.seconds)
  const bareLatency = await latencyAt(bare, bareFeed, latencyRate, options.seconds)
  const totals = await borealis.devices.report()
  const router = borealis.router()
  return {
    connections: options.connections,
    deliveredPerSecond: Math.round(ours('deliveredPerSecond')),
    bareDeliveredPerSecond: Math.round(bares('deliveredPerSecond')),
    latencyMs: latency,
    bareLatencyMs: bareLatency,
    latencyRatePerSecond: latencyRate,
    workerCpuMicrosPerDelivery: significant(ours('cpuMicrosPerDelivery')),
    bareCpuMicrosPerDelivery: significant(bares('cpuMicrosPerDelivery')),
    ratioToBare: significant(ours('cpuMicrosPerDelivery') / bares('cpuMicrosPerDelivery'), 3),
    natsCpuMicrosPerDelivery: significant(ours('behindCpuMicrosPerDelivery')),
    frameBytes: router.frameBytes,
    contentBytes: CONTENT_BYTES,
    sent: router.sent,
    lost: router.sent - totals.delivered,
    duplicates: totals.duplicatesOnWire + totals.duplicatesSeenByApp,
    outcomes: router.reports,
    rounds: measured,
  }
}
