/** One message to everybody: the worker's fan-out beside that of bare uWebSockets.js; nobody acknowledges in either. */
import { connect as natsConnect } from 'nats'
import Type, { type Static } from 'typebox'
import { MessageIdSource } from '../../protocol/message-id.js'
import { BroadcastLog } from '../../src/store/broadcast.js'
import { bareDevices, startBare } from '../baselines/bare.js'
import { BROADCAST_SUBJECT } from '../baselines/feed.js'
import { startPlainNats } from '../baselines/plain-nats.js'
import { groupBody, NotifyFrames } from '../content.js'
import { DRAIN_MS } from '../drive.js'
import type { Generators } from '../generator/generators.js'
import { type LatencyMs, LatencyMs as LatencyMsSchema, latencyMs } from '../measure/latency.js'
import { cpuMicrosOf } from '../measure/processes.js'
import { median, significant } from '../measure/stats.js'
import { nowMicros } from '../micros.js'
import { type Bench, defineScenario } from '../scenario.js'
import { createTenant, registerDevices } from '../system/fleet.js'
import { devicesOf, startTransport } from '../system/transport-only.js'
import { BARE_CONNECTIONS_MAX, connections, generators, rounds, workers } from './options.js'

const Options = Type.Object({
  connections: connections(),
  messages: Type.Integer({
    default: 20,
    minimum: 1,
    maximum: 10_000,
    description: 'of each round, one behind the other',
  }),
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
  latencyMs: LatencyMsSchema,
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

interface Side {
  label: string
  devices: Generators
  connections: number
  serverPids: number[]
  /** Resolves when the store or the server has it. */
  publish(sequence: number, micros: number): Promise<unknown>
  /** How many deliveries its devices have counted in this round. */
  delivered(counts: { delivered: number; groupDelivered: number }): number
}

interface Round {
  perSecond: number
  cpuMicros: number
  lastDeviceMs: number
  latency: LatencyMs
  missing: number
}

const TOPIC = 'bench'

async function run(bench: Bench, options: Options): Promise<Result> {
  const borealis = await borealisSide(bench, options)
  const bare = await bareSide(bench, options)
  const mine: Round[] = []
  const floor: Round[] = []
  for (let i = 0; i < options.rounds; i++) {
    bench.progress.bar('rounds', i, options.rounds)
    mine.push(await oneRound(borealis, options.messages))
    floor.push(await oneRound(bare, options.messages))
  }
  const totals = await borealis.devices.report()
  const of = (rounds: Round[], value: (round: Round) => number) => median(rounds.map(value))
  const perSecond = of(mine, (r) => r.perSecond)
  const barePerSecond = of(floor, (r) => r.perSecond)
  const cpu = of(mine, (r) => r.cpuMicros)
  const bareCpu = of(floor, (r) => r.cpuMicros)
  return {
    connections: options.connections,
    messages: options.messages,
    deliveriesPerSecond: Math.round(perSecond),
    bareDeliveriesPerSecond: Math.round(barePerSecond),
    ratioToBare: significant(perSecond / barePerSecond, 3),
    lastDeviceMs: significant(of(mine, (r) => r.lastDeviceMs)),
    bareLastDeviceMs: significant(of(floor, (r) => r.lastDeviceMs)),
    latencyMs: (mine[0] as Round).latency,
    workerCpuMicrosPerDelivery: significant(cpu),
    bareCpuMicrosPerDelivery: significant(bareCpu),
    cpuRatioToBare: significant(cpu / bareCpu, 3),
    lost: mine.reduce((sum, round) => sum + round.missing, 0),
    duplicates: totals.groupDuplicates,
    unexpectedDisconnects: totals.unexpectedDisconnects,
  }
}

async function borealisSide(bench: Bench, options: Options): Promise<Side> {
  const rig = await startTransport(bench, options)
  const tenant = await createTenant(rig.fabric, rig.run)
  await registerDevices(rig.fabric, tenant, { count: options.connections, topics: [TOPIC] })
  const devices = await devicesOf(bench, rig, { connections: options.connections, processes: options.generators })
  await devices.prepare()
  await devices.ramp({ count: options.connections, label: 'borealis' })
  const log = new BroadcastLog(rig.fabric)
  const ids = new MessageIdSource(0, () => Date.now())
  const { project } = tenant
  return {
    label: 'borealis',
    devices,
    connections: options.connections,
    serverPids: rig.system.pids('worker'),
    delivered: ({ groupDelivered }) => groupDelivered,
    publish: (sequence, micros) => {
      const id = ids.next(0)
      const acceptedAtMs = Date.now()
      const target = { kind: 'topic', name: TOPIC } as const
      return log.append({
        ...{ id, project, ...target, acceptedAtMs },
        expiresAtMs: acceptedAtMs + 3_600_000,
        collapseKey: '',
        body: groupBody(id, project, target, sequence, micros),
      })
    },
  }
}

async function bareSide(bench: Bench, options: Options): Promise<Side> {
  const nats = await startPlainNats(bench)
  const server = await startBare(bench, { natsUrl: nats.url, topic: true })
  const connections = Math.min(options.connections, BARE_CONNECTIONS_MAX)
  const devices = await bareDevices(bench, server, { connections, processes: options.generators, keepaliveMs: 0 })
  await devices.behave({ acknowledge: false })
  await devices.ramp({ count: connections, label: 'bare' })
  const publisher = await natsConnect({ servers: nats.url, noAsyncTraces: true })
  bench.defer(() => publisher.close())
  const frames = new NotifyFrames(1, Math.floor(Date.now() / 1000) + 600)
  let id = 1n
  return {
    label: 'bare',
    devices,
    connections,
    serverPids: [server.pid],
    delivered: ({ groupDelivered }) => groupDelivered,
    publish: async (sequence, micros) => publisher.publish(BROADCAST_SUBJECT, frames.make(id++, sequence, micros)),
  }
}

async function oneRound(side: Side, messages: number): Promise<Round> {
  await side.devices.newRound()
  const cpuBefore = cpuMicrosOf(side.serverPids)
  const startMicros = nowMicros()
  for (let i = 0; i < messages; i++) await side.publish(i, nowMicros())
  const missing = await untilDelivered(side, messages * side.connections)
  const { lastAtMicros, latency } = await side.devices.report()
  const cpuMicros = cpuMicrosOf(side.serverPids) - cpuBefore
  const deliveries = messages * side.connections - missing
  const single = await oneAlone(side)
  return {
    perSecond: deliveries / ((lastAtMicros - startMicros) / 1e6),
    cpuMicros: cpuMicros / deliveries,
    lastDeviceMs: single.lastDeviceMs,
    latency: latencyMs(latency),
    missing: missing + single.missing,
  }
}

async function oneAlone(side: Side): Promise<{ lastDeviceMs: number; missing: number }> {
  await side.devices.newRound()
  const startMicros = nowMicros()
  await side.publish(0, startMicros)
  const missing = await untilDelivered(side, side.connections)
  const { lastAtMicros } = await side.devices.report()
  return { lastDeviceMs: (lastAtMicros - startMicros) / 1000, missing }
}

/** How many did not come. */
async function untilDelivered(side: Side, expected: number): Promise<number> {
  let delivered = 0
  await side.devices.until(
    (counts) => {
      delivered = side.delivered(counts)
      return delivered >= expected
    },
    DRAIN_MS + expected / 10,
  )
  return expected - delivered
}
