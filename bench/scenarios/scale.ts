/** Does a delivery cost more where there are more sessions? The same rate of messages at each size, in one run. */
import { availableParallelism } from 'node:os'
import Type, { type Static } from 'typebox'
import type { Feed } from '../drive.js'
import { pause, type Range } from '../generator/generators.js'
import { LatencyMs, latencyMs } from '../measure/latency.js'
import { cpuMicrosOf } from '../measure/processes.js'
import { median, significant } from '../measure/stats.js'
import { nthDevice } from '../pick.js'
import { type UnicastRound, unicastRound } from '../rounds.js'
import { BenchRouter } from '../router.js'
import { type Bench, BenchError, defineScenario } from '../scenario.js'
import { newSequences, type Side } from '../sides.js'
import { type Location, locate } from '../system/fleet.js'
import { devicesOf, startTransport, type TransportRig } from '../system/transport-only.js'
import { generators, rounds } from './options.js'

const CONNECTIONS_MAX = 1_008_000

const Options = Type.Object({
  connections: Type.String({
    default: '10000,30000',
    description: 'sizes, growing, separated by commas; devices stay connected from one to the next',
  }),
  rate: Type.Integer({
    default: 4_000,
    minimum: 1,
    maximum: 1_000_000,
    description: 'messages a second, at each size',
  }),
  seconds: Type.Integer({
    default: 15,
    minimum: 1,
    maximum: 600,
    description: 'of sending at each size, all rounds together',
  }),
  idleSeconds: Type.Integer({
    default: 5,
    minimum: 1,
    maximum: 600,
    description: 'of looking at each size at what the sessions cost without messages',
  }),
  rounds: rounds(),
  keepaliveSeconds: Type.Integer({
    default: 300,
    minimum: 5,
    maximum: 3_600,
    description: 'between two keepalives of a device',
  }),
  workers: Type.Integer({
    default: 0,
    minimum: 0,
    maximum: 128,
    description: "transport workers, the same at each size; 0: the supervisor's own rule for the largest",
  }),
  generators,
})
type Options = Static<typeof Options>

const Size = Type.Object({
  connections: Type.Integer(),
  rampSeconds: Type.Number(),
  /** Worker CPU while messages went, less what the sessions cost without any, by messages. */
  workerCpuMicrosPerDelivery: Type.Number(),
  /** The same with nothing taken off. */
  grossCpuMicrosPerDelivery: Type.Number(),
  /** To the first size, of workerCpuMicrosPerDelivery. */
  ratioToFirst: Type.Number(),
  idleCores: Type.Number(),
  /** nats-server and supervisor. */
  natsCpuMicrosPerDelivery: Type.Number(),
  deliveredPerSecond: Type.Number(),
  latencyMs: LatencyMs,
  lost: Type.Integer(),
})
type Size = Static<typeof Size>

const Result = Type.Object({
  workers: Type.Integer(),
  ratePerSecond: Type.Integer(),
  sizes: Type.Array(Size),
  /** Of the largest size to the first. */
  ratio: Type.Number(),
  lost: Type.Integer(),
  duplicates: Type.Integer(),
  unexpectedDisconnects: Type.Integer(),
})
type Result = Static<typeof Result>

export const scale = defineScenario({
  name: 'scale',
  summary: 'worker CPU and latency of a delivery at growing numbers of sessions, at the same rate, in one run',
  options: Options,
  result: Result,
  run,
  show: ({ sizes }) =>
    sizes.map((size) => ({
      connections: size.connections,
      'CPU us/delivery': size.workerCpuMicrosPerDelivery,
      'ratio to first': size.ratioToFirst,
      'idle cores': size.idleCores,
      'p50 ms': size.latencyMs.p50,
      'p99 ms': size.latencyMs.p99,
      lost: size.lost,
    })),
})

const WARM_UP_SECONDS = 3
/** The first size has to warm up all workers, of which each gets its share of the rate only. */
const WARM_UP_SECONDS_PER_WORKER = 1

async function run(bench: Bench, options: Options): Promise<Result> {
  const sizes = sizesOf(options.connections)
  const largest = sizes.at(-1) as number
  const keepaliveMs = options.keepaliveSeconds * 1000
  const rig = await startTransport(bench, {
    ...{ connections: largest, workers: options.workers },
    settings: { transport: { workers: options.workers, connectionsTarget: largest, keepaliveMs } },
  })
  const devices = await devicesOf(bench, rig, { connections: largest, processes: options.generators })
  const side: Side = {
    ...{ name: 'borealis', version: '', devices, connections: 0, ...newSequences() },
    serverPids: rig.system.pids('worker'),
    behindPids: [...rig.system.pids('nats'), ...rig.system.pids('transport')],
    feed: () => Promise.reject(new BenchError('a size has its own')),
    broadcast: () => Promise.reject(new BenchError('nobody is in a group')),
    behave: async () => undefined,
  }
  const found: Size[] = []
  const locations: Location[] = []
  const ranges: Range[] = []
  for (const size of sizes) {
    found.push(await measure(bench, rig, side, { size, locations, ranges, first: found[0] ?? null, options }))
  }
  const totals = await devices.report()
  return {
    workers: side.serverPids.length,
    ratePerSecond: options.rate,
    sizes: found,
    ratio: found.at(-1)?.ratioToFirst ?? 1,
    lost: side.sequences.used - totals.delivered,
    duplicates: totals.duplicatesOnWire + totals.duplicatesSeenByApp,
    unexpectedDisconnects: totals.unexpectedDisconnects,
  }
}

interface Step {
  size: number
  /** Grows with the sizes. */
  locations: Location[]
  /** Who had come at the size before. */
  ranges: Range[]
  first: Size | null
  options: Options
}

async function measure(bench: Bench, rig: TransportRig, side: Side, step: Step): Promise<Size> {
  const { size, first, options } = step
  const { devices } = side
  const before = side.connections
  const ramp = await devices.ramp({ count: size - before, atATime: availableParallelism(), label: `to ${size}` })
  side.connections = size
  const ranges = await devices.ranges()
  for (const [i, { first, count }] of ranges.entries()) {
    const known = step.ranges[i]?.count ?? 0
    await locate(rig.broker, rig, first + count, first + known, step.locations)
  }
  step.ranges.splice(0, Number.POSITIVE_INFINITY, ...ranges)
  const router = new BenchRouter(rig.broker, rig.run, step.locations)
  const feed = toThoseWhoCame(router, ranges)
  const round = { rate: options.rate, window: 0 }
  // Code that was never run would be charged to the first size.
  const warmUp = first ? 0 : WARM_UP_SECONDS_PER_WORKER * side.serverPids.length
  await unicastRound(side, feed, { ...round, seconds: Math.max(WARM_UP_SECONDS, warmUp) })
  const idleCores = await idle(bench, side, options.idleSeconds)
  await devices.newRound()
  const usedBefore = side.sequences.used
  const deliveredBefore = (await devices.counts()).delivered
  const rounds: UnicastRound[] = []
  for (let i = 0; i < options.rounds; i++) {
    bench.progress.bar(`rounds at ${size}`, i, options.rounds)
    rounds.push(await unicastRound(side, feed, { ...round, seconds: options.seconds / options.rounds }))
  }
  router.stop()
  const { latency, delivered } = await devices.report()
  const mid = (field: keyof UnicastRound) => median(rounds.map((one) => one[field]))
  const gross = mid('cpuMicrosPerDelivery')
  const net = gross - (idleCores * 1e6) / options.rate
  return {
    connections: size,
    rampSeconds: significant(ramp.seconds),
    workerCpuMicrosPerDelivery: significant(net),
    grossCpuMicrosPerDelivery: significant(gross),
    ratioToFirst: first ? significant(net / first.workerCpuMicrosPerDelivery, 3) : 1,
    idleCores: significant(idleCores, 3),
    natsCpuMicrosPerDelivery: significant(mid('behindCpuMicrosPerDelivery')),
    deliveredPerSecond: Math.round(mid('deliveredPerSecond')),
    latencyMs: latencyMs(latency),
    lost: side.sequences.used - usedBefore - (delivered - deliveredBefore),
  }
}

/** Of several generator processes, each has only some of its devices until the last size. */
function toThoseWhoCame(router: BenchRouter, ranges: readonly Range[]): Feed {
  return {
    send: (n, sequence, intendedMicros) => router.send(nthDevice(n, ranges), sequence, intendedMicros),
    flush: () => router.flush(),
    get answered() {
      return router.answered
    },
  }
}

/** Cores of the workers while nothing is sent. */
async function idle(bench: Bench, { serverPids }: Side, seconds: number): Promise<number> {
  bench.progress.say(`idle for ${seconds} s`)
  const cpuBefore = cpuMicrosOf(serverPids)
  const startedMs = performance.now()
  await pause(seconds * 1000)
  return (cpuMicrosOf(serverPids) - cpuBefore) / ((performance.now() - startedMs) * 1000)
}

/** Throws BenchError where they are no growing list. */
export function sizesOf(text: string): number[] {
  const sizes = text.split(',').map((part) => Number(part.trim() || Number.NaN))
  const isGrowing = sizes.every(
    (size, i) => Number.isInteger(size) && size > (sizes[i - 1] ?? 0) && size <= CONNECTIONS_MAX,
  )
  if (!isGrowing) throw new BenchError(`--connections has to be growing numbers of devices: ${text}`)
  return sizes
}
