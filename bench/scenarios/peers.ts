/** Compares Borealis with servers that a user might choose instead, and with the lower bound, in one run. */
import { join } from 'node:path'
import Type, { type Static } from 'typebox'
import { BARE_CONNECTIONS_MAX } from '../baselines/bare.js'
import { mosquittoSide, natsSide } from '../baselines/brokers.js'
import type { Feed } from '../drive.js'
import { MemoryProbe, type MemoryReading } from '../measure/memory-probe.js'
import { memorySum } from '../measure/processes.js'
import { settledBytes } from '../measure/settled.js'
import { median, significant } from '../measure/stats.js'
import { rampInSteps } from '../ramp-in-steps.js'
import { type BroadcastRound, broadcastRound, latencyAt, type UnicastRound, unicastRound } from '../rounds.js'
import { type Bench, BenchError, defineScenario } from '../scenario.js'
import { baselineSide, borealisSide, type Side, type SideOptions } from '../sides.js'
import { connections, generators, rounds, workers } from './options.js'

const Options = Type.Object({
  connections: Type.Integer({ ...connections(), maximum: BARE_CONNECTIONS_MAX }),
  seconds: Type.Integer({
    default: 2,
    minimum: 1,
    maximum: 600,
    description: 'seconds of unicast to each peer, over all rounds',
  }),
  messages: Type.Integer({ default: 5, minimum: 1, maximum: 1_000, description: 'number of broadcasts of each round' }),
  rounds: rounds(2),
  window: Type.Integer({
    default: 2_000,
    minimum: 1,
    maximum: 65_536,
    description: 'number of unanswered unicast messages',
  }),
  only: Type.String({ default: '', description: 'names of the peers to measure, separated by commas; empty: all' }),
  workers,
  generators,
})
type Options = Static<typeof Options>

const Peer = Type.Object({
  peer: Type.String(),
  version: Type.String(),
  memoryBytesPerConnection: Type.Number(),
  unicastPerSecond: Type.Number(),
  /** Deliveries for each CPU second of the processes that hold the connections. */
  unicastPerServerCpuSecond: Type.Number(),
  /** The same with the CPU of the bus behind them, if there is one. */
  unicastPerCpuSecondInAll: Type.Number(),
  unicastP99Ms: Type.Number(),
  unicastP99RatePerSecond: Type.Number(),
  broadcastPerSecond: Type.Number(),
  broadcastPerServerCpuSecond: Type.Number(),
  broadcastLastDeviceMs: Type.Number(),
  lost: Type.Integer(),
  unexpectedDisconnects: Type.Integer(),
})
type Peer = Static<typeof Peer>

const Result = Type.Object({
  connections: Type.Integer(),
  peers: Type.Array(Peer),
  /** Our unicastPerCpuSecondInAll relative to that of mosquitto; 0: one of the two was not measured. */
  unicastRatioToMosquitto: Type.Number(),
})
type Result = Static<typeof Result>

type Start = (bench: Bench, options: SideOptions) => Promise<Side>

const PEERS: Readonly<Record<string, Start>> = {
  borealis: (bench, options) => borealisSide(bench, { ...options, registered: true }),
  mosquitto: mosquittoSide,
  'nats-server': natsSide,
  ws: (bench, options) => baselineSide(bench, 'ws', options),
  bare: (bench, options) => baselineSide(bench, 'uws', options),
}

export const peers = defineScenario({
  name: 'peers',
  summary: 'Borealis, mosquitto QoS 1, nats-server, a ws server and bare uWebSockets.js: memory, unicast, broadcast',
  options: Options,
  result: Result,
  run,
  show: (result) =>
    result.peers.map((one) => ({
      peer: one.peer,
      'B/connection': one.memoryBytesPerConnection,
      'unicast/s': one.unicastPerSecond,
      'unicast/CPU s': one.unicastPerServerCpuSecond,
      'p99 ms': one.unicastP99Ms,
      'broadcast/s': one.broadcastPerSecond,
      'broadcast/CPU s': one.broadcastPerServerCpuSecond,
      lost: one.lost,
    })),
})

interface Contestant {
  name: string
  side: Side
  feed: Feed
  memoryEach: number
  unicast: UnicastRound[]
  broadcast: BroadcastRound[]
}

async function run(bench: Bench, options: Options): Promise<Result> {
  const contestants: Contestant[] = []
  for (const name of chosen(options.only)) contestants.push(await enter(bench, name, options))
  const round = { seconds: options.seconds / options.rounds, rate: 'max', window: options.window } as const
  for (let i = 0; i < options.rounds; i++) {
    for (const [n, { side, feed, unicast, broadcast }] of contestants.entries()) {
      bench.progress.bar('rounds', i * contestants.length + n, options.rounds * contestants.length)
      unicast.push(await unicastRound(side, feed, round))
      broadcast.push(await broadcastRound(side, options.messages))
    }
  }
  const rows: Peer[] = []
  for (const contestant of contestants) {
    bench.progress.say(`latencies of ${contestant.name}`)
    rows.push(await rowOf(contestant, round.seconds))
  }
  const perCpu = (name: string) => rows.find(({ peer }) => peer === name)?.unicastPerCpuSecondInAll ?? 0
  const mosquitto = perCpu('mosquitto')
  return {
    connections: options.connections,
    peers: rows,
    unicastRatioToMosquitto: mosquitto > 0 ? significant(perCpu('borealis') / mosquitto, 3) : 0,
  }
}

function chosen(only: string): string[] {
  const names = only === '' ? Object.keys(PEERS) : only.split(',')
  const unknown = names.filter((name) => !(name in PEERS))
  if (unknown.length > 0)
    throw new BenchError(`there is no peer ${unknown.join(', ')}; the peers are ${Object.keys(PEERS).join(', ')}`)
  return names
}

const STEPS = 3

async function enter(bench: Bench, name: string, options: Options): Promise<Contestant> {
  const start = PEERS[name]
  if (!start) throw new BenchError(`there is no peer ${name}`)
  const side = await start(bench, { ...options, memoryProbe: new MemoryProbe(join(bench.folder, 'memory')) })
  const { devices, connections, memoryProbe, serverPids } = side
  const readMemory = memoryProbe ? () => memoryProbe.read(serverPids) : () => settled(serverPids)
  const { bytesEach } = await rampInSteps(bench.progress, {
    devices,
    connections,
    steps: STEPS,
    readMemory,
    label: name,
  })
  return { name, side, feed: await side.feed(), memoryEach: bytesEach, unicast: [], broadcast: [] }
}

/** The memory of a broker, which cannot be told to collect garbage. */
async function settled(pids: readonly number[]): Promise<MemoryReading> {
  const rssBytes = await settledBytes(() => memorySum(pids).rssBytes)
  return { rssBytes, heapBytes: 0, neededBytes: rssBytes }
}

async function rowOf({ name, side, feed, memoryEach, unicast, broadcast }: Contestant, seconds: number): Promise<Peer> {
  const uni = (field: keyof UnicastRound) => median(unicast.map((one) => one[field]))
  const all = (value: (round: BroadcastRound) => number) => median(broadcast.map(value))
  const rate = Math.max(1, Math.floor(uni('deliveredPerSecond') / 2))
  const latency = await latencyAt(side, feed, rate, seconds)
  const totals = await side.devices.report()
  const cpu = uni('cpuMicrosPerDelivery')
  return {
    peer: name,
    version: side.version,
    memoryBytesPerConnection: Math.round(memoryEach),
    unicastPerSecond: Math.round(uni('deliveredPerSecond')),
    unicastPerServerCpuSecond: Math.round(1e6 / cpu),
    unicastPerCpuSecondInAll: Math.round(1e6 / (cpu + uni('behindCpuMicrosPerDelivery'))),
    unicastP99Ms: latency.p99,
    unicastP99RatePerSecond: rate,
    broadcastPerSecond: Math.round(all((r) => r.perSecond)),
    broadcastPerServerCpuSecond: Math.round(1e6 / all((r) => r.cpuMicrosPerDelivery)),
    broadcastLastDeviceMs: significant(all((r) => r.lastDeviceMs)),
    lost: side.sequences.used - totals.delivered + broadcast.reduce((sum, { missing }) => sum + missing, 0),
    unexpectedDisconnects: totals.unexpectedDisconnects,
  }
}
