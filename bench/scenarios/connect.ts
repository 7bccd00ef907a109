/** Measures handshakes with a device token, with a resume ticket, and the mere upgrade of bare uWebSockets.js. */
import Type, { type Static } from 'typebox'
import { Handshakes } from '../handshakes.js'
import { LatencyMs, latencyMs } from '../measure/latency.js'
import { median, significant } from '../measure/stats.js'
import type { Measurement } from '../measurement.js'
import { type Bench, defineScenario } from '../scenario.js'
import { connections, generators, inFlight, rounds, workers } from './options.js'

const Options = Type.Object({
  connections: connections(),
  rounds: rounds(),
  inFlight,
  workers,
  generators,
})
type Options = Static<typeof Options>

const Result = Type.Object({
  connections: Type.Integer(),
  /** With a device token: the worker checks an ES256 signature, reads and writes the session, and reads the queue. */
  fullHandshakesPerSecond: Type.Number(),
  resumedPerSecond: Type.Number(),
  bareUpgradesPerSecond: Type.Number(),
  fullCpuMicros: Type.Number(),
  resumedCpuMicros: Type.Number(),
  bareCpuMicros: Type.Number(),
  /** CPU of the worker relative to a bare upgrade. */
  resumedRatioToBare: Type.Number(),
  fullRatioToBare: Type.Number(),
  natsFullCpuMicros: Type.Number(),
  natsResumedCpuMicros: Type.Number(),
  /** From connect() to CAUGHT_UP, with `inFlight` handshakes in progress. */
  resumedLatencyMs: LatencyMs,
  refused: Type.Integer(),
  unexpectedDisconnects: Type.Integer(),
})
type Result = Static<typeof Result>

export const connect = defineScenario({
  name: 'connect',
  summary: 'full and resumed handshakes: rate, and server CPU relative to a bare upgrade',
  options: Options,
  result: Result,
  run,
  headline: [
    'fullHandshakesPerSecond',
    'resumedPerSecond',
    'fullCpuMicros',
    'resumedCpuMicros',
    'natsFullCpuMicros',
    'natsResumedCpuMicros',
    'fullRatioToBare',
    'resumedRatioToBare',
    'resumedLatencyMs.p99',
    'refused',
  ],
  show: (result) => [
    { handshake: 'full', 'per second': result.fullHandshakesPerSecond, 'server CPU us': result.fullCpuMicros },
    { handshake: 'resumed', 'per second': result.resumedPerSecond, 'server CPU us': result.resumedCpuMicros },
    { handshake: 'bare', 'per second': result.bareUpgradesPerSecond, 'server CPU us': result.bareCpuMicros },
    { handshake: `resumed relative to bare: ${result.resumedRatioToBare}` },
  ],
})

async function run(bench: Bench, options: Options): Promise<Result> {
  const handshakes = await Handshakes.start(bench, options)
  const full: Measurement[] = []
  const resumed: Measurement[] = []
  const bare: Measurement[] = []
  // The first round does not count: V8 compiles the servers in their first seconds, and servers live for months.
  for (let round = 0; round <= options.rounds; round++) {
    const keep = (waves: Measurement[], wave: Measurement) => round > 0 && waves.push(wave)
    keep(full, await handshakes.full())
    keep(resumed, await handshakes.resumed())
    keep(bare, await handshakes.upgraded())
  }
  const totals = await handshakes.devices.report()
  const of = (waves: Measurement[], value: (wave: Measurement) => number) => median(waves.map(value))
  const perSecond = (wave: Measurement) => wave.perSecond
  const server = (wave: Measurement) => wave.cpu.serverMicros / wave.operations
  const nats = (wave: Measurement) => wave.cpu.behindMicros / wave.operations
  const bareCpu = of(bare, server)
  return {
    connections: options.connections,
    fullHandshakesPerSecond: Math.round(of(full, perSecond)),
    resumedPerSecond: Math.round(of(resumed, perSecond)),
    bareUpgradesPerSecond: Math.round(of(bare, perSecond)),
    fullCpuMicros: significant(of(full, server)),
    resumedCpuMicros: significant(of(resumed, server)),
    bareCpuMicros: significant(bareCpu),
    resumedRatioToBare: significant(of(resumed, server) / bareCpu, 3),
    fullRatioToBare: significant(of(full, server) / bareCpu, 3),
    natsFullCpuMicros: significant(of(full, nats)),
    natsResumedCpuMicros: significant(of(resumed, nats)),
    resumedLatencyMs: latencyMs(totals.handshake),
    refused: totals.refused,
    unexpectedDisconnects: totals.unexpectedDisconnects,
  }
}
