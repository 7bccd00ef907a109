/** Measures messages to all devices, for a worker and for bare uWebSockets.js. No device acknowledges on either side. */
import Type, { type Static } from 'typebox'
import { LatencyMs } from '../measure/latency.js'
import { median, significant } from '../measure/stats.js'
import { type BroadcastRound, broadcastRound } from '../rounds.js'
import { type Bench, defineScenario } from '../scenario.js'
import { baselineSide, borealisSide } from '../sides.js'
import { connections, generators, messages, rounds, workers } from './options.js'

const Options = Type.Object({
  connections: connections(),
  messages: messages(),
  rounds: rounds(),
  workers,
  generators,
})
type Options = Static<typeof Options>

const Result = Type.Object({
  connections: Type.Integer(),
  messages: Type.Integer(),
  /** From the first message given to NATS until the last device has the last message. */
  deliveriesPerSecond: Type.Number(),
  bareDeliveriesPerSecond: Type.Number(),
  /** Deliveries a second relative to bare. */
  ratioToBare: Type.Number(),
  /** Time until the last device has a message that is sent alone. */
  lastDeviceMs: Type.Number(),
  bareLastDeviceMs: Type.Number(),
  latencyMs: LatencyMs,
  workerCpuMicrosPerDelivery: Type.Number(),
  bareCpuMicrosPerDelivery: Type.Number(),
  cpuRatioToBare: Type.Number(),
  lost: Type.Integer(),
  duplicates: Type.Integer(),
  unexpectedDisconnects: Type.Integer(),
})
type Result = Static<typeof Result>

export const broadcast = defineScenario({
  name: 'broadcast',
  summary: 'messages to all devices: deliveries a second relative to bare uWebSockets.js',
  options: Options,
  result: Result,
  run,
})

async function run(bench: Bench, options: Options): Promise<Result> {
  const borealis = await borealisSide(bench, { ...options, registered: true })
  await borealis.devices.ramp({ count: options.connections, label: 'borealis' })
  const bare = await baselineSide(bench, 'uws', options)
  await bare.devices.ramp({ count: bare.connections, label: 'bare' })
  const ours: BroadcastRound[] = []
  const bares: BroadcastRound[] = []
  for (let i = 0; i < options.rounds; i++) {
    bench.progress.bar('rounds', i, options.rounds)
    ours.push(await broadcastRound(borealis, options.messages))
    bares.push(await broadcastRound(bare, options.messages))
  }
  const totals = await borealis.devices.report()
  const of = (rounds: BroadcastRound[], value: (round: BroadcastRound) => number) => median(rounds.map(value))
  const perSecond = of(ours, (r) => r.perSecond)
  const barePerSecond = of(bares, (r) => r.perSecond)
  const cpu = of(ours, (r) => r.cpuMicrosPerDelivery)
  const bareCpu = of(bares, (r) => r.cpuMicrosPerDelivery)
  return {
    connections: options.connections,
    messages: options.messages,
    deliveriesPerSecond: Math.round(perSecond),
    bareDeliveriesPerSecond: Math.round(barePerSecond),
    ratioToBare: significant(perSecond / barePerSecond, 3),
    lastDeviceMs: significant(of(ours, (r) => r.lastDeviceMs)),
    bareLastDeviceMs: significant(of(bares, (r) => r.lastDeviceMs)),
    latencyMs: (ours[0] as BroadcastRound).latency,
    workerCpuMicrosPerDelivery: significant(cpu),
    bareCpuMicrosPerDelivery: significant(bareCpu),
    cpuRatioToBare: significant(cpu / bareCpu, 3),
    lost: ours.reduce((sum, round) => sum + round.missing, 0),
    duplicates: totals.groupDuplicates,
    unexpectedDisconnects: totals.unexpectedDisconnects,
  }
}
