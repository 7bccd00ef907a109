/** Measures whether a delivery costs more with more sessions: the same rate of messages at growing sizes, in one run. */

import Type, { type Static } from 'typebox'
import { processesAtOnce } from '../../src/processors.js'
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
    description: 'growing numbers of devices, separated by commas; devices stay connected from one size to the next',
  }),
  rate: Type.Integer({
    default: 4_000,
    minimum: 1,
    maximum: 1_000_000,
    description: 'messages a second at each size',
  }),
  seconds: Type.Integer({
    default: 15,
    minimum: 1,
    maximum: 600,
    description: 'seconds of sending at each size, over all rounds',
  }),
  idleSeconds: Type.Integer({
    default: 5,
    minimum: 1,
    maximum: 600,
    description: 'seconds at each size in which the CPU of the sessions is measured without messages',
  }),
  rounds: rounds(),
  keepaliveSeconds: Type.Integer({
    default: 300,
    minimum: 5,
    maximum: 3_600,
    description: 'seconds between two keepalives of a device',
  }),
  workers: Type.Integer({
    default: 0,
    minimum: 0,
    maximum: 128,
    description: "number of transport workers at every size; 0: by the supervisor's own rule for the largest size",
  }),
  generators,
})
type Options = Static<typeof Options>

const Size = Type.Object({
  connections: Type.Integer(),
  rampSeconds: Type.Number(),
  /** Worker CPU for each delivery, without the CPU of idle sessions (`idleCores`). */
  workerCpuMicrosPerDelivery: Type.Number(),
  /** Worker CPU for each delivery, with the CPU of idle sessions. */
  grossCpuMicrosPerDelivery: Type.Number(),
  /** workerCpuMicrosPerDelivery relative to that of the first size. */
  ratioToFirst: Type.Number(),
  idleCores: Type.Number(),
  /** CPU of nats-server and of the supervisor. */
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
  /** ratioToFirst of the largest size. */
  ratio: Type.Number(),
  lost: Type.Integer(),
  duplicates: Type.Integer(),
  unexpectedDisconnects: Type.Integer(),
})
type Result = Static<typeof Result>

export const scale = defineScenario({
  name: 'scale',
  summary: 'worker CPU and latency of a delivery at the same rate with growing numbers of sessions',
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
/** The warm-up at the first size grows with the workers, because each gets only its share of the rate. */
const WARM_UP_SECONDS_PER_WORKER = 1

async function run(bench: Bench, options: Options): Promise<Result> {
  const sizes = sizesOf(options.connections)
  const largest = sizes.at(-1) as number
  const keepaliveMs = options.keepaliveSeconds * 1000
  const rig = await startTransport(bench, {
    connections: largest,
    workers: options.workers,
    settings: { transport: { workers: options.workers, connectionsTarget: largest, keepaliveMs } },
  })
  const devices = await devicesOf(bench, rig, { connections: largest, processes: options.generators })
  const side: Side = {
    name: 'borealis',
    version: '',
    devices,
    connections: 0,
    ...newSequences(),
    serverPids: rig.system.pids('worker'),
    behindPids: [...rig.system.pids('nats'), ...rig.system.pids('transport')],
    feed: () => Promise.reject(new BenchError('each size has its own feed')),
    broadcast: () => Promise.reject(new BenchError('these devices are in no group')),
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
  /** The workers of the devices, by device number. Each size adds its new devices. */
  locations: Location[]
  /** The connected devices at the previous size. */
  ranges: Range[]
  first: Size | null
  options: Options
}

async function measure(bench: Bench, rig: TransportRig, side: Side, step: Step): Promise<Size> {
  const { size, first, options } = step
  const { devices } = side
  const before = side.connections
  const ramp = await devices.ramp({ count: size - before, atATime: processesAtOnce(), label: `to ${size}` })
  side.connections = size
  const ranges = await devices.ranges()
  for (const [i, { first, count }] of ranges.entries()) {
    const known = step.ranges[i]?.count ?? 0
    await locate(rig.broker, rig, first + count, first + known, step.locations)
  }
  step.ranges.splice(0, Number.POSITIVE_INFINITY, ...ranges)
  const router = new BenchRouter(rig.broker, rig.run, step.locations)
  const feed = toConnected(router, ranges)
  const round = { rate: options.rate, window: 0 }
  // Without a warm-up, compiling the code would count for the first size.
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

/** Sends to connected devices only: before the last size, each generator process has only a part of its devices. */
function toConnected(router: BenchRouter, ranges: readonly Range[]): Feed {
  return {
    send: (n, sequence, intendedMicros) => router.send(nthDevice(n, ranges), sequence, intendedMicros),
    flush: () => router.flush(),
    get answered() {
      return router.answered
    },
  }
}

/** Cores that the workers use while no message is sent. */
async function idle(bench: Bench, { serverPids }: Side, seconds: number): Promise<number> {
  bench.progress.say(`idle for ${seconds} s`)
  const cpuBefore = cpuMicrosOf(serverPids)
  const startedMs = performance.now()
  await pause(seconds * 1000)
  return (cpuMicrosOf(serverPids) - cpuBefore) / ((performance.now() - startedMs) * 1000)
}

/** Throws BenchError if the numbers do not grow. */
export function sizesOf(text: string): number[] {
  const sizes = text.split(',').map((part) => Number(part.trim() || Number.NaN))
  const isGrowing = sizes.every(
    (size, i) => Number.isInteger(size) && size > (sizes[i - 1] ?? 0) && size <= CONNECTIONS_MAX,
  )
  if (!isGrowing) throw new BenchError(`--connections needs growing numbers of devices, not ${text}`)
  return sizes
}
