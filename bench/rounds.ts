/** One measurement of one side. Scenarios measure both sides in turns, several times, and report medians. */
import { DRAIN_MS, type Driven, drained, driveMax, driveRate, type Feed } from './drive.js'
import { type LatencyMs, latencyMs } from './measure/latency.js'
import { type Measurement, measureCpu } from './measurement.js'
import { nowMicros } from './micros.js'
import type { Side } from './sides.js'

export interface UnicastRound {
  deliveredPerSecond: number
  cpuMicrosPerDelivery: number
  /** CPU of the store or bus behind the server. */
  behindCpuMicrosPerDelivery: number
}

export interface UnicastOptions {
  seconds: number
  rate: number | 'max'
  /** With `rate: 'max'`: number of unanswered messages. */
  window: number
}

export async function unicastRound(side: Side, feed: Feed, options: UnicastOptions): Promise<UnicastRound> {
  const { operations, perSecond, cpu } = await measureUnicast(side, feed, options)
  return {
    deliveredPerSecond: perSecond,
    cpuMicrosPerDelivery: cpu.serverMicros / operations,
    behindCpuMicrosPerDelivery: cpu.behindMicros / operations,
  }
}

/** An operation is an answered message. */
export async function measureUnicast(side: Side, feed: Feed, options: UnicastOptions): Promise<Measurement> {
  await side.behave('unicast')
  const { seconds, rate, window } = options
  const drive = { feed, connections: side.connections, seconds, sequences: side.sequences }
  const answeredBefore = feed.answered
  const { done: driven, cpu } = await measureCpu(side, async () => {
    const driven = await (rate === 'max' ? driveMax(drive, window) : driveRate(drive, rate))
    await settle(feed, driven, answeredBefore)
    return driven
  })
  return { operations: feed.answered - answeredBefore, perSecond: driven.answered / driven.seconds, cpu }
}

export async function latencyAt(side: Side, feed: Feed, perSecond: number, seconds: number): Promise<LatencyMs> {
  await side.behave('unicast')
  await side.devices.newRound()
  const answeredBefore = feed.answered
  const drive = { feed, connections: side.connections, seconds, sequences: side.sequences }
  await settle(feed, await driveRate(drive, perSecond), answeredBefore)
  return latencyMs((await side.devices.report()).latency)
}

/** Waits for outstanding answers. Messages that stay unanswered count as lost. */
async function settle(feed: Feed, driven: Driven, answeredBefore: number): Promise<void> {
  await drained(feed, answeredBefore + driven.sent)
}

export interface BroadcastRound {
  /** Deliveries a second, from the first message given to the server until the last device has the last message. */
  perSecond: number
  cpuMicrosPerDelivery: number
  behindCpuMicrosPerDelivery: number
  /** Time until the last device has a message that is sent alone. */
  lastDeviceMs: number
  latency: LatencyMs
  missing: number
}

export async function broadcastRound(side: Side, messages: number): Promise<BroadcastRound> {
  const { operations, perSecond, cpu, latency, missing } = await measureBroadcast(side, messages)
  const single = await oneMessage(side)
  return {
    perSecond,
    cpuMicrosPerDelivery: cpu.serverMicros / operations,
    behindCpuMicrosPerDelivery: cpu.behindMicros / operations,
    lastDeviceMs: single.lastDeviceMs,
    latency,
    missing: missing + single.missing,
  }
}

/** An operation is one message delivered to one device. */
export async function measureBroadcast(
  side: Side,
  messages: number,
): Promise<Measurement & Pick<BroadcastRound, 'latency' | 'missing'>> {
  await side.behave('broadcast')
  await side.devices.newRound()
  const startMicros = nowMicros()
  const { done, cpu } = await measureCpu(side, async () => {
    for (let i = 0; i < messages; i++) await side.broadcast(side.groupSequences.next(), nowMicros())
    const missing = await untilDelivered(side, messages * side.connections)
    return { missing, ...(await side.devices.report()) }
  })
  const operations = messages * side.connections - done.missing
  const perSecond = operations / ((done.lastAtMicros - startMicros) / 1e6)
  return { operations, perSecond, cpu, latency: latencyMs(done.latency), missing: done.missing }
}

async function oneMessage(side: Side): Promise<{ lastDeviceMs: number; missing: number }> {
  await side.devices.newRound()
  const startMicros = nowMicros()
  await side.broadcast(side.groupSequences.next(), startMicros)
  const missing = await untilDelivered(side, side.connections)
  const { lastAtMicros } = await side.devices.report()
  return { lastDeviceMs: (lastAtMicros - startMicros) / 1000, missing }
}

/** Resolves with the number of missing deliveries. */
async function untilDelivered(side: Side, expected: number): Promise<number> {
  let delivered = 0
  await side.devices.until((counts) => {
    delivered = counts.groupDelivered
    return delivered >= expected
  }, DRAIN_MS)
  return Math.max(0, expected - delivered)
}
