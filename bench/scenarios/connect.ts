/** Handshakes: with a token, with a resume ticket, and the bare upgrade of uWebSockets.js. */
import Type, { type Static } from 'typebox'
import { bareDevices, startBare } from '../baselines/bare.js'
import { type Generators, pause } from '../generator/generators.js'
import { LatencyMs, latencyMs } from '../measure/latency.js'
import { cpuMicrosOf } from '../measure/processes.js'
import { median, significant } from '../measure/stats.js'
import { type Bench, defineScenario } from '../scenario.js'
import { devicesOf, startTransport } from '../system/transport-only.js'
import { BARE_CONNECTIONS_MAX, connections, generators, profile, rounds, workers } from './options.js'

const Options = Type.Object({
  connections: connections(),
  rounds: rounds(),
  inFlight: Type.Integer({ default: 512, minimum: 1, maximum: 8_192, description: 'handshakes under way, most' }),
  workers,
  generators,
  profile,
})
type Options = Static<typeof Options>

const Result = Type.Object({
  connections: Type.Integer(),
  /** With a device token: ES256 check, session read and written, queue read. */
  fullHandshakesPerSecond: Type.Number(),
  resumedPerSecond: Type.Number(),
  bareUpgradesPerSecond: Type.Number(),
  fullCpuMicros: Type.Number(),
  resumedCpuMicros: Type.Number(),
  bareCpuMicros: Type.Number(),
  /** Of the worker, by that of a bare upgrade. */
  resumedRatioToBare: Type.Number(),
  fullRatioToBare: Type.Number(),
  natsFullCpuMicros: Type.Number(),
  natsResumedCpuMicros: Type.Number(),
  /** From connect() until CAUGHT_UP, with `inFlight` under way. */
  resumedLatencyMs: LatencyMs,
  refused: Type.Integer(),
  unexpectedDisconnects: Type.Integer(),
})
type Result = Static<typeof Result>

export const connect = defineScenario({
  name: 'connect',
  summary: 'full and resumed handshakes a second, and what each costs the server beside a bare upgrade',
  options: Options,
  result: Result,
  run,
  show: (result) => [
    { handshake: 'full', 'per second': result.fullHandshakesPerSecond, 'server CPU us': result.fullCpuMicros },
    { handshake: 'resumed', 'per second': result.resumedPerSecond, 'server CPU us': result.resumedCpuMicros },
    { handshake: 'bare', 'per second': result.bareUpgradesPerSecond, 'server CPU us': result.bareCpuMicros },
    { handshake: `resumed by bare: ${result.resumedRatioToBare}` },
  ],
})

interface Wave {
  perSecond: number
  cpuMicros: number
  natsCpuMicros: number
}

/** Closes and their tombstones are done, and garbage is collected, before the next wave is measured. */
const REST_MS = 700

async function run(bench: Bench, options: Options): Promise<Result> {
  const rig = await startTransport(bench, options)
  const devices = await devicesOf(bench, rig, { connections: options.connections, processes: options.generators })
  const server = await startBare(bench, { natsUrl: null, topic: false })
  const bareCount = Math.min(options.connections, BARE_CONNECTIONS_MAX)
  const bare = await bareDevices(bench, server, {
    connections: bareCount,
    processes: options.generators,
    keepaliveMs: 0,
  })
  const workerPids = rig.system.pids('worker')
  const natsPids = rig.system.pids('nats')
  const wave = (who: Generators, count: number, label: string, pids: number[]) =>
    oneWave(who, { count, inFlightMax: options.inFlight, label }, pids, natsPids)

  const full: Wave[] = []
  const resumed: Wave[] = []
  const floor: Wave[] = []
  // A first round is not counted: servers live for months, and are compiled in their first seconds.
  for (let round = 0; round <= options.rounds; round++) {
    const keep = (waves: Wave[], wave: Wave) => round > 0 && waves.push(wave)
    await devices.prepare()
    await devices.behave({ resume: false })
    keep(full, await wave(devices, options.connections, 'full', workerPids))
    await devices.behave({ resume: true })
    await devices.newRound()
    keep(resumed, await wave(devices, options.connections, 'resumed', workerPids))
    keep(floor, await wave(bare, bareCount, 'bare', [server.pid]))
    await server.forget()
  }
  const totals = await devices.report()
  const of = (waves: Wave[], name: keyof Wave) => median(waves.map((one) => one[name]))
  const bareCpu = of(floor, 'cpuMicros')
  return {
    connections: options.connections,
    fullHandshakesPerSecond: Math.round(of(full, 'perSecond')),
    resumedPerSecond: Math.round(of(resumed, 'perSecond')),
    bareUpgradesPerSecond: Math.round(of(floor, 'perSecond')),
    fullCpuMicros: significant(of(full, 'cpuMicros')),
    resumedCpuMicros: significant(of(resumed, 'cpuMicros')),
    bareCpuMicros: significant(bareCpu),
    resumedRatioToBare: significant(of(resumed, 'cpuMicros') / bareCpu, 3),
    fullRatioToBare: significant(of(full, 'cpuMicros') / bareCpu, 3),
    natsFullCpuMicros: significant(of(full, 'natsCpuMicros')),
    natsResumedCpuMicros: significant(of(resumed, 'natsCpuMicros')),
    resumedLatencyMs: latencyMs(totals.handshake),
    refused: totals.refused,
    unexpectedDisconnects: totals.unexpectedDisconnects,
  }
}

/** All come, and go by reset. Only the coming is measured. */
async function oneWave(
  devices: Generators,
  ramp: { count: number; inFlightMax: number; label: string },
  serverPids: readonly number[],
  natsPids: readonly number[],
): Promise<Wave> {
  const cpuBefore = cpuMicrosOf(serverPids)
  const natsBefore = cpuMicrosOf(natsPids)
  const { seconds } = await devices.ramp(ramp)
  const cpu = cpuMicrosOf(serverPids) - cpuBefore
  const natsCpu = cpuMicrosOf(natsPids) - natsBefore
  await devices.leave({ abrupt: true })
  await pause(REST_MS)
  return { perSecond: ramp.count / seconds, cpuMicros: cpu / ramp.count, natsCpuMicros: natsCpu / ramp.count }
}
