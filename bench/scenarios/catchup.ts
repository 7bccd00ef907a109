/** Devices that were away connect at a steady rate. Each has queued messages, and has caught up when it has all of them. */
import Type, { type Static } from 'typebox'
import { messagesStream } from '../../protocol/subjects.js'
import type { Broker } from '../../src/nats/broker.js'
import { pause } from '../generator/generators.js'
import { LatencyMs, latencyMs } from '../measure/latency.js'
import { cpuMicrosOf } from '../measure/processes.js'
import { significant } from '../measure/stats.js'
import { nowMicros } from '../micros.js'
import { Pusher } from '../pusher.js'
import { type Bench, BenchError, defineScenario } from '../scenario.js'
import { startWhole } from '../system/whole.js'
import { connections, generators, workers } from './options.js'

const Options = Type.Object({
  connections: connections(),
  queued: Type.Integer({
    default: 5,
    minimum: 1,
    maximum: 100,
    description: 'number of messages in the queue of each device',
  }),
  rate: Type.Integer({ default: 3_000, minimum: 1, maximum: 100_000, description: 'devices that connect in a second' }),
  workers,
  generators,
})
type Options = Static<typeof Options>

const Result = Type.Object({
  connections: Type.Integer(),
  queued: Type.Integer(),
  /** Messages enqueued a second, before any device connects. */
  queuedPerSecond: Type.Number(),
  connectsPerSecond: Type.Number(),
  /** From connect() of a device to CAUGHT_UP, when it has all messages of its queue. */
  caughtUpMs: LatencyMs,
  /** From the first connection to the last delivery. */
  seconds: Type.Number(),
  cpuMicrosPerMessage: Type.Object({ core: Type.Number(), nats: Type.Number(), worker: Type.Number() }),
  lost: Type.Integer(),
  duplicates: Type.Integer(),
})
type Result = Static<typeof Result>

export const catchup = defineScenario({
  name: 'catchup',
  summary: 'devices that were away connect, each with queued messages: time until it has all of them',
  options: Options,
  result: Result,
  run,
})

/** Number of targets of one request. */
const BATCH = 200
const REQUESTS_IN_FLIGHT = 4
const QUEUED_MS_MAX = 300_000
const DELIVERED_MS_MAX = 60_000
const POLL_MS = 100

async function run(bench: Bench, options: Options): Promise<Result> {
  const { connections, rate } = options
  // Without the limit of handshakes, which would be measured instead of the catch-up.
  const rig = await startWhole(bench, { ...options, settings: { transport: { handshakesPerSecondMax: 1_000_000 } } })
  const { devices, system } = rig
  // A device that one message addresses twice gets it once, so a batch must not be larger than the fleet.
  const batch = Math.min(BATCH, connections)
  const pusher = new Pusher(rig, { connections, batch, ttl: '2h' })
  bench.defer(() => pusher.stop())
  const total = connections * options.queued
  const startedAtMs = performance.now()
  const lane = async () => {
    while (pusher.sent < total) {
      await pusher.push(nowMicros(), Math.min(batch, total - pusher.sent))
      bench.progress.bar('accepted', pusher.accepted, total)
    }
  }
  await Promise.all(Array.from({ length: REQUESTS_IN_FLIGHT }, lane))
  await untilRouted(bench, await system.brokerAs('admin'), system.config.store.split, total)
  const enqueueSeconds = (performance.now() - startedAtMs) / 1000

  const parts = { core: system.pids('core'), nats: system.pids('nats'), worker: system.pids('worker') }
  const cpu = () => ({
    core: cpuMicrosOf(parts.core),
    nats: cpuMicrosOf(parts.nats),
    worker: cpuMicrosOf(parts.worker),
  })
  const before = cpu()
  const beganAtMs = performance.now()
  const ramped = await devices.ramp({ count: connections, perSecond: rate, inFlightMax: connections })
  await devices.until(({ delivered }) => delivered >= total, DELIVERED_MS_MAX)
  const seconds = (performance.now() - beganAtMs) / 1000
  const after = cpu()
  const report = await devices.report()
  const perMessage = (part: keyof typeof before) => significant((after[part] - before[part]) / total)
  return {
    connections,
    queued: total,
    queuedPerSecond: Math.round(total / enqueueSeconds),
    connectsPerSecond: Math.round(connections / ramped.seconds),
    caughtUpMs: latencyMs(report.handshake),
    seconds: significant(seconds),
    cpuMicrosPerMessage: { core: perMessage('core'), nats: perMessage('nats'), worker: perMessage('worker') },
    lost: total - report.delivered,
    duplicates: report.duplicatesOnWire + report.duplicatesSeenByApp,
  }
}

/** Waits until every message is enqueued: no device is connected, so a message that has left MESSAGES is in a queue. */
async function untilRouted(bench: Bench, admin: Broker, split: number, total: number): Promise<void> {
  const logs = Array.from({ length: split }, (_, index) => admin.log(messagesStream(index)))
  const deadlineMs = performance.now() + QUEUED_MS_MAX
  for (;;) {
    const states = await Promise.all(logs.map((log) => log.state()))
    const left = states.reduce((sum, { messages }) => sum + messages, 0)
    bench.progress.bar('queued', total - left, total)
    if (left === 0) return
    if (performance.now() > deadlineMs) throw new BenchError(`${left} messages were not enqueued in time`)
    await pause(POLL_MS)
  }
}
