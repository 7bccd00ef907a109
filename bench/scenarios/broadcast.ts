/** One message to everybody: the worker's fan-out beside that of bare uWebSockets.js; nobody acknowledges in either. */
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
  /** From the first message given to NATS until the last device has the last one. */
  deliveriesPerSecond: Type.Number(),
  bareDeliveriesPerSecond: Type.Number(),
  /** Deliveries a second by those of bare. */
  ratioToBare: Type.Number(),
  /** One message alone: until the last device has it. */
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
  summary: 'group messages to all devices by way of the log; deliveries a second beside bare uWebSockets.js',
  options: Options,
  result: Result,
  run,
})

async function run(bench: Bench, options: Options): Promise<Result> {
  const borealis = await borealisSide(bench, { ...options, registered: true })
  await borealis.devices.ramp({ count: options.connections, label: 'borealis' })
  const bare = await baselineSide(bench, 'uws', options)
  await bare.devices.ramp({ count: bare.connections, label: 'bare' })
  const mine: BroadcastRound[] = []
  const floor: BroadcastRound[] = []
  for (let i = 0; i < options.rounds; i++) {
    bench.progress.bar('rounds', i, options.rounds)
    mine.push(await broadcastRound(borealis, options.messages))
    floor.push(await broadcastRound(bare, options.messages))
  }
  const totals = await borealis.devices.report()
  const of = (rounds: BroadcastRound[], value: (round: BroadcastRound) => number) => median(rounds.map(value))
  const perSecond = of(mine, (r) => r.perSecond)
  const barePerSecond = of(floor, (r) => r.perSecond)
  const cpu = of(mine, (r) => r.cpuMicrosPerDelivery)
  const bareCpu = of(floor, (r) => r.cpuMicrosPerDelivery)
  return {
    connections: options.connections,
    messages: options.messages,
    deliveriesPerSecond: Math.round(perSecond),
    bareDeliveriesPerSecond: Math.round(barePerSecond),
    ratioToBare: significant(perSecond / barePerSecond, 3),
    lastDeviceMs: significant(of(mine, (r) => r.lastDeviceMs)),
    bareLastDeviceMs: significant(of(floor, (r) => r.lastDeviceMs)),
    latencyMs: (mine[0] as BroadcastRound).latency,
    workerCpuMicrosPerDelivery: significant(cpu),
    bareCpuMicrosPerDelivery: significant(bareCpu),
    cpuRatioToBare: significant(cpu / bareCpu, 3),
    lost: mine.reduce((sum, round) => sum + round.missing, 0),
    duplicates: totals.groupDuplicates,
    unexpectedDisconnects: totals.unexpectedDisconnects,
  }
}
