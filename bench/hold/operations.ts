/** The operations of the scenario hold on an instance with its devices, and their measurements. */
import type { Static } from 'typebox'
import { pause } from '../generator/generators.js'
import { latencyMs } from '../measure/latency.js'
import { significant } from '../measure/stats.js'
import { nowMicros } from '../micros.js'
import { Flow, pushAtRate } from '../pusher.js'
import type { Broadcast, Kill, Pushes, RollingRestart } from './result.js'
import type { HeldService } from './service.js'

const BACK_MS_MAX = 300_000
const BROADCAST_MS_MAX = 300_000
/** Longest time of a rolling restart for each worker. The limit counts one worker more. */
const RESTART_MS_PER_WORKER = 90_000
const STATUS_MS = 500
const REST_MS = 2_000

/** Pushes to random devices. */
export async function push(service: HeldService, count: number, perSecond: number): Promise<Static<typeof Pushes>> {
  const { devices, pusher } = service
  await devices.newRound()
  const before = await service.counts()
  const startedMs = performance.now()
  await pushAtRate(pusher, 1, { perSecond, seconds: count / perSecond })
  await service.delivered()
  const seconds = (performance.now() - startedMs) / 1000
  const after = await service.counts()
  const latency = latencyMs((await devices.report()).latency)
  const sent = after.accepted - before.accepted
  return {
    sent,
    delivered: after.delivered - before.delivered,
    lost: after.missing - before.missing,
    perSecond: significant(sent / seconds),
    p50: latency.p50,
    p99: latency.p99,
    latencyMs: latency,
  }
}

/** Pushes one message to all devices. */
export async function broadcast({ devices, pusher, progress }: HeldService): Promise<Static<typeof Broadcast>> {
  await devices.newRound()
  const { ready } = await devices.counts()
  const atMicros = nowMicros()
  await pusher.broadcast(0, atMicros)
  await devices.until(
    ({ groupDelivered }) => groupDelivered >= ready,
    BROADCAST_MS_MAX,
    ({ groupDelivered }) => progress.bar('broadcast', groupDelivered, ready),
  )
  const { groupDelivered, lastAtMicros } = await devices.report()
  return {
    devices: ready,
    delivered: groupDelivered,
    lost: Math.max(0, ready - groupDelivered),
    lastDeviceMs: significant((lastAtMicros - atMicros) / 1000),
  }
}

/** Kills the worker with the most devices, while pushes go on. */
export async function killOne(service: HeldService, flowRate: number): Promise<Static<typeof Kill>> {
  const { devices, pusher, progress } = service
  const pushed = await service.counts()
  const flow = new Flow(pusher, 1, flowRate)
  await pause(REST_MS)
  const { workers } = await service.instance.status()
  const victim = workers.reduce((a, b) => ((a.levels?.sessions ?? 0) > (b.levels?.sessions ?? 0) ? a : b))
  const count = victim.levels?.sessions ?? 0
  const before = await devices.report()
  progress.say(`killing worker ${victim.index}, which has ${count} devices`)
  const killedMs = performance.now()
  process.kill(victim.pid, 'SIGKILL')
  await devices.until(({ ready }) => ready < before.ready - count / 2, BACK_MS_MAX)
  const back = await untilBack(service, before.ready, count, killedMs)
  await flow.stop()
  await service.delivered()
  const after = await devices.report()
  const now = await service.counts()
  const gone = after.unexpectedDisconnects - before.unexpectedDisconnects
  return {
    devices: count,
    ...back,
    othersDisconnected: Math.max(0, gone - count),
    pushed: now.accepted - pushed.accepted,
    lost: now.missing - pushed.missing,
  }
}

interface Back {
  secondsTo99: number
  secondsTo100: number
}

async function untilBack(
  { devices, progress }: HeldService,
  ready: number,
  count: number,
  killedMs: number,
): Promise<Back> {
  const times: Back = { secondsTo99: -1, secondsTo100: -1 }
  await devices.until(
    (now) => {
      const seconds = significant((performance.now() - killedMs) / 1000)
      if (times.secondsTo99 < 0 && now.ready >= ready - 0.01 * count) times.secondsTo99 = seconds
      if (now.ready >= ready) times.secondsTo100 = seconds
      return now.ready >= ready
    },
    BACK_MS_MAX,
    (now) => progress.bar('back', now.ready, ready),
  )
  return times
}

/** Replaces all workers by a rolling restart, while pushes go on. */
export async function restartAll(service: HeldService, flowRate: number): Promise<Static<typeof RollingRestart>> {
  const { devices, pusher, progress } = service
  await devices.newRound()
  const before = await devices.report()
  const pushed = await service.counts()
  const flow = new Flow(pusher, 1, flowRate)
  const startedMs = performance.now()
  await service.instance.restart()
  const workers = await untilRestarted(service)
  await devices.untilReady(before.ready, (ready) => progress.bar('back', ready, before.ready), BACK_MS_MAX)
  const seconds = significant((performance.now() - startedMs) / 1000)
  await flow.stop()
  await service.delivered()
  const after = await devices.report()
  const now = await service.counts()
  const { p50, p99 } = latencyMs(after.latency)
  return {
    workers,
    seconds,
    moved: after.moved - before.moved,
    p50,
    p99,
    pushed: now.accepted - pushed.accepted,
    lost: now.missing - pushed.missing,
    unexpectedDisconnects: after.unexpectedDisconnects - before.unexpectedDisconnects,
  }
}

async function untilRestarted({ instance, progress }: HeldService): Promise<number> {
  const startedMs = performance.now()
  for (;;) {
    const { restart } = await instance.status()
    if (!restart) throw new Error('the instance reports no rolling restart')
    progress.bar('rolling restart', restart.done, restart.total, 'workers')
    if (restart.state === 'done') return restart.total
    if (restart.state === 'failed') throw new Error(`the rolling restart failed: ${restart.reason}`)
    if (performance.now() - startedMs > (restart.total + 1) * RESTART_MS_PER_WORKER) {
      throw new Error('the rolling restart does not end')
    }
    await pause(STATUS_MS)
  }
}
