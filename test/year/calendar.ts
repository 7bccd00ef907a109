/** What is certain to come within a year, and when. A shorter year has the same acts, closer together. */
import { KEYRING_CHANGED_SUBJECT } from '../../protocol/subjects.js'
import { sleep } from '../../src/clock.js'
import type { KeyKind } from '../../src/keyring.js'
import { between } from '../sim/random.js'
import { campaignMax } from './settings.js'
import { type Traffic, topicOf } from './traffic.js'
import { DAY_MS, PROJECTS, type YearWorld } from './world.js'

const HOUR_MS = 3_600_000
const SECOND_MS = 1_000

export interface Act {
  name: string
  day: number
  /** Inside the clock. */
  run(world: YearWorld, traffic: Traffic): Promise<void>
}

const ROTATIONS = 12
const CAMPAIGNS = 12
const QUEUE_MAX = 100
/** More messages than it takes to fill SCHEDULE. */
const FILLING_MAX = 500
/** Restarted processes have time to take up their work. */
const BREATH_MS = 5_000

/** In the order of days. */
export function calendar(days: number): Act[] {
  const on = (share: number) => Math.min(days - 1, Math.floor(share * days))
  const acts: Act[] = []
  const add = (share: number, name: string, run: Act['run']) => acts.push({ name, day: on(share), run })
  for (let month = 0; month < ROTATIONS; month++) add((month + 0.6) / 12, 'rotate the keys', rotateKeys)
  for (let month = 0; month < CAMPAIGNS; month++) {
    add((month + 0.3) / 12, 'a campaign', (world, traffic) => campaign(world, traffic, month))
  }
  const clock = (share: number, name: string, set: (world: YearWorld) => void) =>
    add(share, name, async (world) => set(world))
  clock(0.1, 'a core is an hour ahead', ({ cores }) => cores[0]?.setClock(HOUR_MS))
  clock(0.13, 'and is set right', ({ cores }) => cores[0]?.setClock(0))
  clock(0.35, 'a worker is an hour behind', ({ workers }) => workers[1]?.setClock(-HOUR_MS))
  clock(0.39, 'and is set right', ({ workers }) => workers[1]?.setClock(0))
  clock(0.61, 'a core is an hour behind, and a worker ahead', ({ cores, workers }) => {
    cores[1]?.setClock(-HOUR_MS)
    workers[0]?.setClock(HOUR_MS)
  })
  clock(0.64, 'and both are set right', ({ cores, workers }) => {
    cores[1]?.setClock(0)
    workers[0]?.setClock(0)
  })
  for (const share of [0.2, 0.45, 0.7, 0.95]) add(share, 'an upgrade', upgrade)
  add(0.15, 'nats-server is restarted', (world) => restartServer(world, 3_000, false))
  add(0.52, 'nats-server is killed', (world) => restartServer(world, 5_000, true))
  add(0.8, 'nats-server is away for a minute', (world) => restartServer(world, 60_000, false))
  add(0.25, 'a core is killed', (world) => kill(world, 'cores'))
  add(0.55, 'a worker is killed', (world) => kill(world, 'workers'))
  add(0.3, 'an enrolment key ends', endEnrolmentKey)
  add(0.4, 'a device is revoked', revokeDevice)
  add(0.48, 'a project is suspended', (world, traffic) => suspend(world, traffic, 'east'))
  add(0.5, 'and resumed', (world) => resume(world, 'east'))
  add(0.33, 'a queue overflows', overflow)
  add(0.85, 'SCHEDULE is filled', fillSchedule)
  add(0.65, 'a project reaches its limit', reachLimit)
  add(0.75, 'a key of a service account is replaced', replaceServiceKey)
  return acts.sort((a, b) => a.day - b.day)
}

/** Every kind: add, let everybody read it, sign with it, let everybody read that, and take out what has no use any more. */
export async function rotateKeys(world: YearWorld): Promise<void> {
  const { clock, keys, settings } = world
  keys.add(clock.now())
  await reloadKeys(world)
  keys.activate(clock.now())
  await reloadKeys(world)
  const { auth } = settings
  const { ticketSeconds } = world.plan.transport
  const lifeMs: Record<KeyKind, number> = {
    accessToken: auth.accessTokenSeconds * SECOND_MS,
    deviceToken: (auth.deviceTokenDays + auth.deviceTokenGraceDays) * DAY_MS,
    // registrationIds do not end.
    registration: Number.POSITIVE_INFINITY,
    // Nor do secrets at rest.
    secrets: Number.POSITIVE_INFINITY,
    ticket: ticketSeconds * SECOND_MS,
  }
  keys.retire(lifeMs, clock.now())
  world.rotations++
}

/** As `borealis keyring reload` does; whoever starts a rotation waits until everybody has read the keys. */
async function reloadKeys(world: YearWorld): Promise<void> {
  const { keys, broker, cores, workers } = world
  const admin = broker.brokerFor('admin')
  admin.bus.publish(KEYRING_CHANGED_SUBJECT, new Uint8Array())
  const keyring = keys.read()
  const { revision } = keyring.mark
  for (const worker of workers) worker.useKeys(keyring.transportKeys())
  await world.becomes(
    () => cores.every(({ keyringRevision }) => keyringRevision === revision),
    'every core has the keys',
  )
  await admin.close()
}

type Part = YearWorld['cores'][0] | YearWorld['workers'][0]

async function restartInTurn(world: YearWorld, parts: readonly Part[]): Promise<void> {
  for (const part of parts) {
    part.stop()
    await world.becomes(() => part.isGone, `${part.name} has stopped`)
    part.start()
    await world.becomes(() => part.isUp, `${part.name} is up again`)
    await sleep(world.clock, BREATH_MS)
  }
}

async function upgrade(world: YearWorld): Promise<void> {
  await restartInTurn(world, world.cores)
  await restartInTurn(world, world.workers)
}

async function restartServer({ broker, clock }: YearWorld, downMs: number, kill: boolean): Promise<void> {
  broker.restartServer(downMs, kill)
  await sleep(clock, downMs + BREATH_MS)
}

async function kill(world: YearWorld, which: 'cores' | 'workers'): Promise<void> {
  const part: Part | undefined = world[which][0]
  if (!part) return
  part.crash(false)
  await sleep(world.clock, 1_000)
  part.start()
  await world.becomes(() => part.isUp, `${part.name} is up again`)
}

/** Many registrations of a project, a topic and the application, all at one second. */
async function campaign(world: YearWorld, traffic: Traffic, month: number): Promise<void> {
  const { clock } = world
  const notBeforeMs = clock.now() + 20 * SECOND_MS
  const active = PROJECTS.filter((id) => !world.suspended.has(id))
  const project = active[month % active.length] ?? 'north'
  const some = traffic.addressees(project).slice(0, campaignMax(world.size))
  await Promise.all([
    traffic.toDevices(project, some, { notBeforeMs }),
    traffic.toTopic(project, topicOf(month), { notBeforeMs }),
    traffic.toApplication(project, { notBeforeMs }),
  ])
}

/** The old key is refused with its reason, the new one is good, and who enrolled with the old one stays. */
async function endEnrolmentKey(world: YearWorld): Promise<void> {
  const { operator, fleet, enrolmentKey, size } = world
  const { keys = [] } = await operator.ask('GET', `/fleets/${fleet}/keys`)
  const [old] = keys as { keyId: string }[]
  const added = await operator.ask('POST', `/fleets/${fleet}/keys`, { uses: size })
  await operator.ask('POST', `/fleets/${fleet}/keys/${old?.keyId}/retire`)
  // The watch of each core has to hear of it.
  await sleep(world.clock, 1_000)
  const late = world.makeDevice(world.devices.length)
  const refused = await late.enrol(enrolmentKey).then(
    () => 'nothing',
    (error: { serverCode?: string }) => error.serverCode ?? '',
  )
  if (refused !== 'bad_enrolment_key') world.wrong('acts', `an ended enrolment key is answered ${refused}`)
  world.enrolmentKey = String(added.enrolmentKey)
  await world.enrol(late)
  await world.becomes(() => late.isSettled, `${late.label} is registered with the new key`)
}

async function revokeDevice(world: YearWorld): Promise<void> {
  const { devices, operator, clock, random } = world
  const up = devices.filter((device) => device.isSettled)
  const device = up[between(random, [0, up.length - 1])]
  if (!device) return world.wrong('acts', 'no device is there to be revoked')
  world.goodbyes.set(device, 'revoked')
  device.revokedAtMs = clock.now()
  await operator.ask('POST', `/devices/${device.name}/revoke`)
  await world.becomes(() => !device.isLive, `${device.label} is cut off`)
}

async function suspend(world: YearWorld, traffic: Traffic, project: string): Promise<void> {
  await world.operator.ask('POST', `/projects/${project}/suspend`)
  world.suspended.add(project)
  await sleep(world.clock, 1_000)
  const [first] = traffic.addressees(project)
  if (!first) return world.wrong('acts', 'nobody is there to be refused')
  const isAccepted = await traffic.toDevices(project, [first], { mayBe: ['project_inactive', 'forbidden'] })
  if (isAccepted) world.wrong('acts', 'a suspended project may send')
}

async function resume(world: YearWorld, project: string): Promise<void> {
  await world.operator.ask('POST', `/projects/${project}/resume`)
  await sleep(world.clock, 1_000)
  world.suspended.delete(project)
}

/** More than the queue of a device holds: the oldest are dropped, and the device is told how many. */
async function overflow(world: YearWorld, traffic: Traffic): Promise<void> {
  const { clock } = world
  const [to] = traffic.addressees('north').filter(({ device }) => device.isSettled && device.topicsWanted.length > 0)
  if (!to) return world.wrong('acts', 'nobody is there whose queue could overflow')
  const { device } = to
  device.isOverflowed = true
  device.awayUntilDay = Number.POSITIVE_INFINITY
  await device.stop()
  await sleep(clock, BREATH_MS)
  const extra = Math.floor(QUEUE_MAX / 4)
  for (let i = 0; i < QUEUE_MAX + extra; i++) await traffic.toDevices('north', [to])
  await sleep(clock, 2 * BREATH_MS)
  const told = () => device.gaps.filter(({ reason }) => reason === 'queue_overflow')
  const before = told().length
  device.awayUntilDay = 0
  device.start()
  await world.becomes(() => told().length > before, `${device.label} is told what was dropped`)
}

/** A stream that is full refuses with its reason; what it took goes out, and then there is room again. */
async function fillSchedule(world: YearWorld, traffic: Traffic): Promise<void> {
  const { clock } = world
  const notBeforeMs = clock.now() + DAY_MS
  const all = traffic.addressees('north').slice(0, campaignMax(world.size))
  for (let i = 0; i < FILLING_MAX; i++) {
    if (!(await traffic.toDevices('north', all, { notBeforeMs, mayBe: ['storage_full'] }))) return
  }
  world.wrong('acts', 'SCHEDULE was not filled')
}

async function reachLimit(world: YearWorld, traffic: Traffic): Promise<void> {
  const { operator, clock } = world
  await operator.ask('POST', '/projects/west/limits', { messagesPerSecond: 4 })
  await sleep(clock, 1_000)
  const all = traffic.addressees('west').slice(0, 1)
  // Whoever is told to wait, waits and is accepted.
  await Promise.all(Array.from({ length: 40 }, () => traffic.toDevices('west', all)))
  await operator.ask('POST', '/projects/west/limits', { messagesPerSecond: null })
}

async function replaceServiceKey(world: YearWorld): Promise<void> {
  const { operator } = world
  const { keyIds = [] } = await operator.ask('GET', '/projects/south')
  const added = await operator.ask('POST', '/projects/south/keys', { alg: 'ES256' })
  const settings = added.settings as {
    push_notification_system: Parameters<ReturnType<YearWorld['appOf']>['useKey']>[0]
  }
  await sleep(world.clock, 1_000)
  world.appOf('south').useKey(settings.push_notification_system)
  for (const key of keyIds as string[]) await operator.ask('DELETE', `/projects/south/keys/${key}`)
}
