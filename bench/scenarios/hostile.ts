/** Measures how well-behaved devices fare beside floods, slow drips and half-open handshakes. */
import Type, { type Static } from 'typebox'
import { Child } from '../generator/rpc.js'
import type { HostileMethods } from '../hostile/child.js'
import { LatencyMs } from '../measure/latency.js'
import { cpuMicrosOf, memorySum } from '../measure/processes.js'
import { significant } from '../measure/stats.js'
import { latencyAt } from '../rounds.js'
import { type Bench, defineScenario } from '../scenario.js'
import { borealisSide } from '../sides.js'
import { connections, generators, workers } from './options.js'

const Options = Type.Object({
  connections: connections(1_000),
  rate: Type.Integer({
    default: 500,
    minimum: 1,
    maximum: 100_000,
    description: 'messages a second to the well-behaved devices',
  }),
  seconds: Type.Integer({
    default: 15,
    minimum: 1,
    maximum: 600,
    description: 'seconds without attackers, and again with them',
  }),
  attackers: Type.Integer({
    default: 50,
    minimum: 1,
    maximum: 2_000,
    description: 'number of connections of each kind of attack',
  }),
  workers,
  generators,
})
type Options = Static<typeof Options>

const Result = Type.Object({
  connections: Type.Integer(),
  /** Latencies of the well-behaved devices. */
  quietLatencyMs: LatencyMs,
  hostileLatencyMs: LatencyMs,
  p99Ratio: Type.Number(),
  workerCoresQuiet: Type.Number(),
  workerCoresHostile: Type.Number(),
  workerRssGrowthBytes: Type.Integer(),
  attacks: Type.Record(
    Type.String(),
    Type.Object({ opened: Type.Integer(), ended: Type.Integer(), bytesSent: Type.Integer() }),
  ),
  /** Disconnects of well-behaved devices. */
  unexpectedDisconnects: Type.Integer(),
  lost: Type.Integer(),
})
type Result = Static<typeof Result>

export const hostile = defineScenario({
  name: 'hostile',
  summary:
    'well-behaved devices beside floods, slow drips and half-open handshakes: latency with and without attackers',
  options: Options,
  result: Result,
  run,
})

const WARM_UP_SECONDS = 2

async function run(bench: Bench, options: Options): Promise<Result> {
  const side = await borealisSide(bench, { ...options, registered: false })
  await side.devices.ramp({ count: options.connections })
  const feed = await side.feed()
  const measure = async (label: string) => {
    bench.progress.say(`${label}: ${options.seconds} s`)
    const before = cpuMicrosOf(side.serverPids)
    const startedMs = performance.now()
    const latency = await latencyAt(side, feed, options.rate, options.seconds)
    const cores = (cpuMicrosOf(side.serverPids) - before) / ((performance.now() - startedMs) * 1000)
    return { latency, cores: significant(cores, 3) }
  }
  await latencyAt(side, feed, options.rate, WARM_UP_SECONDS)
  const quiet = await measure('quiet')
  const rssBefore = memorySum(side.serverPids).rssBytes
  const attackers = Child.start<HostileMethods>('attackers', new URL('../hostile/child.js', import.meta.url))
  bench.defer(() => attackers.stop())
  await attackers.call('start', { target: side.rig.system.deviceTarget, connections: options.attackers })
  const attacked = await measure('under attack')
  const attacks = await attackers.call('stop', undefined as never)
  const totals = await side.devices.report()
  return {
    connections: options.connections,
    quietLatencyMs: quiet.latency,
    hostileLatencyMs: attacked.latency,
    p99Ratio: significant(attacked.latency.p99 / quiet.latency.p99, 3),
    workerCoresQuiet: quiet.cores,
    workerCoresHostile: attacked.cores,
    workerRssGrowthBytes: memorySum(side.serverPids).rssBytes - rssBefore,
    attacks,
    unexpectedDisconnects: totals.unexpectedDisconnects,
    lost: side.sequences.used - totals.delivered,
  }
}
