/** One message to one device, acknowledged: what a delivery costs a worker, beside bare uWebSockets.js. */
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
  rate: rate(', then half of it for the latencies'),
  seconds: Type.Integer({
    default: 10,
    minimum: 1,
    maximum: 600,
    description: 'of sending to each side, all rounds together',
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
  /** At --rate; with max: at half of the maximum. */
  latencyMs: LatencyMs,
  bareLatencyMs: LatencyMs,
  latencyRatePerSecond: Type.Number(),
  workerCpuMicrosPerDelivery: Type.Number(),
  bareCpuMicrosPerDelivery: Type.Number(),
  /** CPU per delivery: the worker's by that of bare. */
  ratioToBare: Type.Number(),
  /** nats-server and supervisor. */
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
  summary: 'NOTIFY frames by way of tx, acknowledged by devices; worker CPU per delivery beside bare uWebSockets.js',
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
  const mine = (name: keyof UnicastRound) => median(measured.map((one) => one.borealis[name]))
  const floor = (name: keyof UnicastRound) => median(measured.map((one) => one.bare[name]))
  const half = Math.max(1, Math.floor(mine('deliveredPerSecond') / 2))
  const latencyRate = options.rate === 'max' ? half : options.rate
  bench.progress.say(`latencies at ${latencyRate} a second`)
  const latency = await latencyAt(borealis, feed, latencyRate, options.seconds)
  const bareLatency = await latencyAt(bare, bareFeed, latencyRate, options.seconds)
  const totals = await borealis.devices.report()
  const router = borealis.router()
  return {
    connections: options.connections,
    deliveredPerSecond: Math.round(mine('deliveredPerSecond')),
    bareDeliveredPerSecond: Math.round(floor('deliveredPerSecond')),
    latencyMs: latency,
    bareLatencyMs: bareLatency,
    latencyRatePerSecond: latencyRate,
    workerCpuMicrosPerDelivery: significant(mine('cpuMicrosPerDelivery')),
    bareCpuMicrosPerDelivery: significant(floor('cpuMicrosPerDelivery')),
    ratioToBare: significant(mine('cpuMicrosPerDelivery') / floor('cpuMicrosPerDelivery'), 3),
    natsCpuMicrosPerDelivery: significant(mine('behindCpuMicrosPerDelivery')),
    frameBytes: router.frameBytes,
    contentBytes: CONTENT_BYTES,
    sent: router.sent,
    lost: router.sent - totals.delivered,
    duplicates: totals.duplicatesOnWire + totals.duplicatesSeenByApp,
    outcomes: router.reports,
    rounds: measured,
  }
}
