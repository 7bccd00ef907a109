/** One measurement of one side. Scenarios repeat them, taking turns, and take medians. */
import { DRAIN_MS, type Driven, drained, driveMax, driveRate, type Feed } from './drive.js'
import { type LatencyMs, latencyMs } from './measure/latency.js'
import { cpuMicrosOf } from './measure/processes.js'
import { nowMicros } from './micros.js'
import type { Side } from './sides.js'

export interface UnicastRound {
  deliveredPerSecond: number
  cpuMicrosPerDelivery: number
  /** Of the store or bus behind the server. */
  behindCpuMicrosPerDelivery: number
}

export interface UnicastOptions {
  seconds: number
  rate: number | 'max'
  /** With max: messages under way. */
  window: number
}

export async function unicastRound(side: Side, feed: Feed, options: UnicastOptions): Promise<UnicastRound> {
  await side.behave('unicast')
  const { seconds, rate, window } = options
  const drive = { feed, connections: side.connections, seconds, sequences: side.sequences }
  const answeredBefore = feed.answered
  const before = { server: cpuMicrosOf(side.serverPids), behind: cpuMicrosOf(side.behindPids) }
  const driven = await (rate === 'max' ? driveMax(drive, window) : driveRate(drive, rate))
  await settle(feed, driven, answeredBefore)
  const delivered = feed.answered - answeredBefore
  return {
    deliveredPerSecond: driven.answered / driven.seconds,
    cpuMicrosPerDelivery: (cpuMicrosOf(side.serverPids) - before.server) / delivered,
    behindCpuMicrosPerDelivery: (cpuMicrosOf(side.behindPids) - before.behind) / delivered,
  }
}

export async function latencyAt(side: Side, feed: Feed, perSecond: number, seconds: number): Promise<LatencyMs> {
  await side.behave('unicast')
  await side.devices.newRound()
  const answeredBefore = feed.answered
  const drive = { feed, connections: side.connections, seconds, sequences: side.sequences }
  await settle(feed, await driveRate(drive, perSecond), answeredBefore)
  return latencyMs((await side.devices.report()).latency)
}

/** What is missing afterwards shows as lost. */
async function settle(feed: Feed, driven: Driven, answeredBefore: number): Promise<void> {
  await drained(feed, answeredBefore + driven.sent)
}

export interface BroadcastRound {
  /** From the first message given to the server until the last device has the last one. */
  perSecond: number
  cpuMicrosPerDelivery: number
  behindCpuMicrosPerDelivery: number
  /** One message alone: until the last device has it. */
  lastDeviceMs: number
  latency: LatencyMs
  missing: number
}

export async function broadcastRound(side: Side, messages: number): Promise<BroadcastRound> {
  await side.behave('broadcast')
  await side.devices.newRound()
  const before = { server: cpuMicrosOf(side.serverPids), behind: cpuMicrosOf(side.behindPids) }
  const startMicros = nowMicros()
  for (let i = 0; i < messages; i++) await side.broadcast(side.groupSequences.next(), nowMicros())
  const missing = await untilDelivered(side, messages * side.connections)
  const { lastAtMicros, latency } = await side.devices.report()
  const deliveries = messages * side.connections - missing
  const cpu = cpuMicrosOf(side.serverPids) - before.server
  const behind = cpuMicrosOf(side.behindPids) - before.behind
  const single = await oneAlone(side)
  return {
    perSecond: deliveries / ((lastAtMicros - startMicros) / 1e6),
    cpuMicrosPerDelivery: cpu / deliveries,
    behindCpuMicrosPerDelivery: behind / deliveries,
    lastDeviceMs: single.lastDeviceMs,
    latency: latencyMs(latency),
    missing: missing + single.missing,
  }
}

async function oneAlone(side: Side): Promise<{ lastDeviceMs: number; missing: number }> {
  await side.devices.newRound()
  const startMicros = nowMicros()
  await side.broadcast(side.groupSequences.next(), startMicros)
  const missing = await untilDelivered(side, side.connections)
  const { lastAtMicros } = await side.devices.report()
  return { lastDeviceMs: (lastAtMicros - startMicros) / 1000, missing }
}

/** How many did not come. */
async function untilDelivered(side: Side, expected: number): Promise<number> {
  let delivered = 0
  await side.devices.until((counts) => {
    delivered = counts.groupDelivered
    return delivered >= expected
  }, DRAIN_MS)
  return Math.max(0, expected - delivered)
}
