/**
 * Injects faults into a run, one after the other: crashes, freezes, partitions, cut and slow connections, restarts of
 * nats-server, wrong clocks, a lost session table. Their times and victims come from the run's random source.
 */
import { sleep } from '../../src/clock.js'
import type { SimClient } from './client.js'
import { SILENT_MS } from './plan.js'
import { between } from './random.js'
import type { World } from './world.js'

/** The largest error of a clock. */
export const SKEW_MS_MAX = 3_600_000

type Act = (world: World) => void

/** Normal behaviour of devices and app servers. A calm run has only these. */
const CALM_ACTS: [weight: number, name: string, act: Act][] = [
  [4, 'device stops', (world) => stopDevice(world, 4_000)],
  [1, 'topic toggled', (world) => pick(world, world.devices)?.toggleTopic('t2')],
  [1, 'cancel', (world) => void world.app.cancelRecent()],
  [1, 'device reads slowly', (world) => slowDown(world)],
]

const ALL_ACTS: typeof CALM_ACTS = [
  ...CALM_ACTS,
  [3, 'device crashes', (world) => crashDevice(world, false)],
  [2, 'device crashes silently', (world) => crashDevice(world, true)],
  [2, 'device freezes', (world) => freezeDevice(world)],
  [4, 'link is cut', (world) => pick(world, world.devices)?.link?.cut()],
  [3, 'link is half open', (world) => makeHalfOpen(world)],
  [3, 'worker crashes', (world) => crash(world, world.workers, false)],
  [1, 'worker crashes silently', (world) => crash(world, world.workers, true)],
  [1, 'worker stops', (world) => stop(world, world.workers)],
  [3, 'core crashes', (world) => crash(world, world.cores, false)],
  [1, 'core crashes silently', (world) => crash(world, world.cores, true)],
  [1, 'core stops', (world) => stop(world, world.cores)],
  [
    3,
    'freeze',
    (world) =>
      disturb(
        world,
        9_000,
        (client) => client.freeze(),
        (client) => client.thaw(),
      ),
  ],
  [
    3,
    'partition',
    (world) =>
      disturb(
        world,
        12_000,
        (client) => client.partition(),
        (client) => client.heal(),
      ),
  ],
  [2, 'devices move', (world) => moveDevices(world)],
  [3, 'NATS connection is lost', (world) => pick(world, world.clients)?.cutOff()],
  [1, 'nats-server stops', (world) => restartServer(world, false)],
  [1, 'nats-server is killed', (world) => restartServer(world, true)],
  [2, 'clock is wrong', (world) => skewClock(world)],
  [1, 'start with a wrong clock', (world) => startSkewed(world)],
  [1, 'session table is lost', (world) => loseSessions(world)],
]

export async function injectFaults(world: World, untilMs: number): Promise<void> {
  const { clock, random, plan, trace } = world
  const acts = plan.calm ? CALM_ACTS : ALL_ACTS
  const total = acts.reduce((sum, [weight]) => sum + weight, 0)
  for (;;) {
    await sleep(clock, between(random, plan.faultGapMs))
    if (clock.now() >= untilMs) return
    let at = random() * total
    const found = acts.find(([weight]) => {
      at -= weight
      return at < 0
    })
    if (!found) continue
    trace.add('chaos', found[1])
    found[2](world)
  }
}

function pick<T>(world: World, from: readonly T[]): T | undefined {
  return from[between(world.random, [0, from.length - 1])]
}

function later(world: World, msMax: number, fn: () => void): void {
  world.clock.after(between(world.random, [50, msMax]), fn)
}

function stopDevice(world: World, msMax: number): void {
  const device = pick(world, world.devices)
  device?.stop()
  later(world, msMax, () => device?.ensureStarted())
}

function crashDevice(world: World, silently: boolean): void {
  const device = pick(world, world.devices)
  device?.crash(silently)
  later(world, 5_000, () => device?.ensureStarted())
}

function freezeDevice(world: World): void {
  const { host } = pick(world, world.devices) ?? {}
  host?.freeze()
  later(world, 8_000, () => host?.thaw())
}

function makeHalfOpen(world: World): void {
  const { link } = pick(world, world.devices) ?? {}
  if (link) link.dropsEverything = true
}

function slowDown(world: World): void {
  const { link } = pick(world, world.devices) ?? {}
  if (!link) return
  link.slowMs = between(world.random, [50, 800])
  later(world, 6_000, () => {
    link.slowMs = 0
  })
}

interface Process {
  readonly name: string
  start(): void
  crash(silently: boolean): void
  stop(): void
}

function crash(world: World, processes: readonly Process[], silently: boolean): void {
  const process = pick(world, processes)
  world.trace.add('chaos', process?.name ?? '')
  process?.crash(silently)
  later(world, 4_000, () => process?.start())
}

function stop(world: World, processes: readonly Process[]): void {
  const process = pick(world, processes)
  world.trace.add('chaos', process?.name ?? '')
  process?.stop()
  later(world, 4_000, () => process?.start())
}

/** Picks a process, and applies `begin` to it now and `end` up to `msMax` later. */
function disturb(world: World, msMax: number, begin: (c: SimClient) => void, end: (c: SimClient) => void): void {
  const client = pick(world, world.clients)
  if (!client) return
  world.trace.add('chaos', client.name)
  begin(client)
  later(world, msMax, () => end(client))
}

/** Delays everything that a worker sends to nats-server, while its devices reconnect to another worker. */
function moveDevices(world: World): void {
  const worker = pick(world, world.workers)
  const { client } = worker ?? {}
  if (!worker || !client) return
  world.trace.add('chaos', worker.name)
  client.partition()
  for (const link of worker.links) link.cut()
  later(world, SILENT_MS, () => client.heal())
}

function restartServer(world: World, kill: boolean): void {
  const { broker, random } = world
  if (broker.server.up) broker.restartServer(between(random, [50, SILENT_MS]), kill)
}

/** Sets the clock of a process or a device wrong, by up to five seconds or up to an hour. It stays so over restarts. */
function skewClock(world: World): void {
  const { random, clients, devices, skews, trace } = world
  const skewMs = between(random, random() < 0.5 ? [-5_000, 5_000] : [-SKEW_MS_MAX, SKEW_MS_MAX])
  const client = random() < 0.7 ? pick(world, clients) : undefined
  const device = client ? undefined : pick(world, devices)
  const name = client?.name ?? device?.label
  if (name === undefined) return
  if (client) client.skewMs = skewMs
  if (device?.host) device.host.skewMs = skewMs
  skews.set(name, skewMs)
  trace.add('chaos', `${name} ${skewMs}`)
}

/** Restarts a process with a wrong clock. */
function startSkewed(world: World): void {
  const { random, cores, workers, skews, trace } = world
  const process = pick(world, [...cores, ...workers])
  if (!process) return
  skews.set(process.name, between(random, [-SKEW_MS_MAX, SKEW_MS_MAX]))
  trace.add('chaos', `${process.name} ${skews.get(process.name)}`)
  process.crash(false)
  later(world, 1_000, () => process.start())
}

/** Deletes all session records, if the workers of this plan audit them often enough to restore them in the run. */
function loseSessions({ plan, broker }: World): void {
  if (plan.transport.auditMs < 60_000)
    broker.server.stream('KV_SESSIONS').purge('>', Number.POSITIVE_INFINITY, broker.clock.now())
}
