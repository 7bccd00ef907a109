/** Kills all workers at once during pushes, and measures how soon their devices are back. */
import Type, { type Static } from 'typebox'
import { type Generators, pause } from '../generator/generators.js'
import { significant } from '../measure/stats.js'
import { Flow, Pusher } from '../pusher.js'
import { type Bench, defineScenario } from '../scenario.js'
import { startWhole } from '../system/whole.js'
import { connections, generators, workers } from './options.js'

const Options = Type.Object({
  connections: connections(),
  rate: Type.Integer({
    default: 200,
    minimum: 1,
    maximum: 100_000,
    description: 'pushes a second during the whole run',
  }),
  batch: Type.Integer({ default: 10, minimum: 1, maximum: 1_000, description: 'targets of one HTTP request' }),
  before: Type.Integer({ default: 3, minimum: 1, maximum: 600, description: 'seconds of pushes before the kill' }),
  timeout: Type.Integer({
    default: 60,
    minimum: 1,
    maximum: 3_600,
    description: 'most seconds until all devices are back',
  }),
  workers,
  generators,
})
type Options = Static<typeof Options>

const Result = Type.Object({
  connections: Type.Integer(),
  workersKilled: Type.Integer(),
  /** From the kill until this share of the devices is ready again; -1: not in time. */
  secondsTo50: Type.Number(),
  secondsTo99: Type.Number(),
  secondsTo100: Type.Number(),
  /** For comparison: the same devices connect with resume tickets, all at once, without a failure. */
  plainRampSeconds: Type.Number(),
  ratioToPlain: Type.Number(),
  refused: Type.Integer(),
  failedConnects: Type.Integer(),
  pushed: Type.Integer(),
  pushesRetried: Type.Integer(),
  /** Slowest answer of the API. */
  apiSlowestMs: Type.Number(),
  lost: Type.Integer(),
  duplicatesOnWire: Type.Integer(),
  duplicatesSeenByApp: Type.Integer(),
  /** From the kill until every push is delivered; -1: not in time. */
  secondsToDelivered: Type.Number(),
  closes: Type.Record(Type.String(), Type.Integer()),
})
type Result = Static<typeof Result>

export const storm = defineScenario({
  name: 'storm',
  summary: 'all workers are killed with SIGKILL during pushes: time until the devices are back, and lost messages',
  options: Options,
  result: Result,
  run,
})

const REST_MS = 1_500
const POLL_MS = 50
const SHARES = [0.5, 0.99, 1] as const
/** Messages that a dead worker held are delivered only after the router considers that worker silent. */
const DELIVERY_MS_MAX = 60_000

async function run(bench: Bench, options: Options): Promise<Result> {
  const { connections } = options
  const rig = await startWhole(bench, options)
  const { devices, system } = rig
  await devices.ramp({ count: connections, label: 'first' })
  await devices.leave({ abrupt: true })
  await pause(REST_MS)
  const plain = await devices.ramp({ count: connections, inFlightMax: connections, label: 'plain ramp' })
  await devices.behave({ reconnect: true })

  const pusher = new Pusher(rig, { ...options, ttl: '30m' })
  bench.defer(() => pusher.stop())
  const pushing = new Flow(pusher, options.batch, options.rate)
  await pause(options.before * 1000)
  const refusedBefore = await devices.report()
  bench.progress.say('killing all workers')
  const killedAtMs = performance.now()
  const killed = system.kill('worker', 'SIGKILL')
  const seconds = await untilBack(bench, devices, options, killedAtMs)
  await pushing.stop()
  const delivered = await devices.until(({ delivered }) => delivered >= pusher.accepted, DELIVERY_MS_MAX)
  const secondsToDelivered = delivered ? significant((performance.now() - killedAtMs) / 1000) : -1
  const totals = await devices.report()
  const to99 = seconds[1] ?? -1
  return {
    connections,
    workersKilled: killed.length,
    secondsTo50: seconds[0] ?? -1,
    secondsTo99: to99,
    secondsTo100: seconds[2] ?? -1,
    plainRampSeconds: significant(plain.seconds),
    ratioToPlain: to99 < 0 ? -1 : significant(to99 / plain.seconds, 3),
    refused: totals.refused - refusedBefore.refused,
    failedConnects: totals.failed - refusedBefore.failed,
    pushed: pusher.accepted,
    pushesRetried: pusher.retried,
    apiSlowestMs: significant(pusher.slowestMs),
    lost: pusher.accepted - totals.delivered,
    duplicatesOnWire: totals.duplicatesOnWire,
    duplicatesSeenByApp: totals.duplicatesSeenByApp,
    secondsToDelivered,
    closes: totals.closes,
  }
}

/** For each share, the seconds from the kill until that share is ready; -1 if not in time. */
async function untilBack(bench: Bench, devices: Generators, options: Options, killedAtMs: number): Promise<number[]> {
  const { connections, timeout } = options
  const seconds: number[] = []
  // Waits until they are gone: otherwise devices that have not noticed the kill yet would count as back.
  await devices.until(({ ready }) => ready < connections * SHARES[0], timeout * 1000)
  while (seconds.length < SHARES.length) {
    const elapsed = (performance.now() - killedAtMs) / 1000
    if (elapsed > timeout) return SHARES.map((_, i) => seconds[i] ?? -1)
    const { ready } = await devices.counts()
    bench.progress.bar('back', ready, connections)
    while (seconds.length < SHARES.length && ready >= connections * (SHARES[seconds.length] as number)) {
      seconds.push(significant(elapsed))
    }
    await pause(POLL_MS)
  }
  return seconds
}
