/** The demo's acts, each a way that a push can go. Every act has devices of its own and counts at their apps. */
import type { Actor } from './actor.js'
import { type Api, each, settled } from './api.js'
import type { Checks } from './check.js'

export interface Stage {
  api: Api
  checks: Checks
  /** Enrolled, connected and registered devices. */
  cast(count: number, role?: { topic?: string; user?: string }): Promise<Actor[]>
  /** Publishes to `push.send.<project>` on NATS, as a publisher inside the company does. */
  publish(body: unknown): Promise<void>
  /** How many of those were stored. */
  ingested(): number
  /** All devices of all acts. */
  everyone: readonly Actor[]
  /** Most messages that wait for a device. */
  queueMax: number
}

export type Act = (stage: Stage) => Promise<void>

const WIDTH = 32
const PATIENCE_MS = 20_000

export const acts: Record<string, Act> = {
  'online devices, one push each': async ({ api, checks, cast }) => {
    const devices = await cast(1_000)
    const ids = await each(devices, WIDTH, (device, i) => api.send(push(device, `online ${i}`)))
    await given(devices, 1)
    checks.equal('given to apps', 1_000, devices.filter((device, i) => device.given.join() === ids[i]).length)
    checks.equal('status delivered', 1_000, await countStatus(api, ids, 'delivered'))
    await leave(devices)
  },

  'offline devices, three pushes each, then connected': async ({ api, checks, cast }) => {
    const devices = await cast(200)
    await leave(devices)
    const ids = await each(devices, WIDTH, async (device) => [
      await api.send(push(device, 'first')),
      await api.send(push(device, 'second')),
      await api.send(push(device, 'third')),
    ])
    await each(devices, WIDTH, (device) => device.connect())
    await given(devices, 3)
    checks.equal(
      'given to apps',
      600,
      devices.reduce((sum, device) => sum + device.given.length, 0),
    )
    checks.equal(
      'devices with their pushes in order',
      200,
      devices.filter((d, i) => d.given.join() === ids[i]?.join()).length,
    )
    checks.equal('status delivered', 600, await countStatus(api, ids.flat(), 'delivered'))
    await leave(devices)
  },

  'one topic push to 500 subscribers, 100 of them offline': async ({ api, checks, cast }) => {
    const devices = await cast(500, { topic: 'news' })
    const away = devices.slice(0, 100)
    await leave(away)
    await api.send({ ...push(null, 'to all'), type: 'topic', target: 'news' })
    await given(devices.slice(100), 1)
    checks.equal(
      'given while online',
      400,
      devices.reduce((sum, device) => sum + device.given.length, 0),
    )
    await each(away, WIDTH, (device) => device.connect())
    await given(devices, 1)
    checks.equal(
      'given to apps',
      500,
      devices.reduce((sum, device) => sum + device.given.length, 0),
    )
    await leave(devices)
  },

  'devices that come back while their old socket is half-open': async ({ api, checks, cast }) => {
    const devices = await cast(50)
    for (const device of devices) device.freeze()
    const before = await each(devices, WIDTH, (device) => api.send(push(device, 'into the dead socket')))
    await each(devices, WIDTH, (device) => device.connect())
    const after = await each(devices, WIDTH, (device) => api.send(push(device, 'to the new one')))
    await given(devices, 2)
    const complete = devices.filter((device, i) => sameSet(device.given, [before[i], after[i]]))
    checks.equal('devices given both, once', 50, complete.length)
    checks.equal('status delivered', 100, await countStatus(api, [...before, ...after], 'delivered'))
    await Promise.all(devices.map((device) => device.hangUp()))
    await leave(devices)
  },

  'a time to live that runs out while offline': async ({ api, checks, cast }) => {
    const devices = await cast(5)
    await leave(devices)
    const ids = await each(devices, WIDTH, (device) => api.send({ ...push(device, 'too late'), ttl: '1s' }))
    checks.equal('status expired', 5, await countStatus(api, ids, 'expired'))
    await each(devices, WIDTH, (device) => device.connect())
    checks.equal(
      'given to apps',
      0,
      devices.reduce((sum, device) => sum + device.given.length, 0),
    )
    await leave(devices)
  },

  'a collapse key that replaces': async ({ api, checks, cast }) => {
    const devices = await cast(5)
    await leave(devices)
    const send = (device: Actor, title: string) => api.send({ ...push(device, title), collapseKey: 'score' })
    const old = await each(devices, WIDTH, (device) => send(device, '1:0'))
    checks.equal('first queued', 5, await countTrace(api, old))
    const latest = await each(devices, WIDTH, (device) => send(device, '2:0'))
    checks.equal('status collapsed', 5, await countStatus(api, old, 'collapsed'))
    await each(devices, WIDTH, (device) => device.connect())
    await given(devices, 1)
    checks.equal('apps given only the newest', 5, devices.filter((d, i) => d.given.join() === latest[i]).length)
    checks.equal('status delivered', 5, await countStatus(api, latest, 'delivered'))
    await leave(devices)
  },

  'more pushes than an offline device may be owed': async ({ api, checks, cast, queueMax }) => {
    const devices = await cast(1)
    await leave(devices)
    const [device] = devices as [Actor]
    const ids: string[] = []
    for (let i = 0; i < queueMax + 20; i++) ids.push(await api.send(push(device, `of many ${i}`)))
    checks.equal('status dropped', 20, await countStatus(api, ids.slice(0, 20), 'dropped'))
    await device.connect()
    await given(devices, queueMax)
    checks.equal('given to the app', queueMax, device.given.length)
    checks.equal('told by GAP', 20, device.missed)
    checks.equal('status delivered', queueMax, await countStatus(api, ids.slice(20), 'delivered'))
    await leave(devices)
  },

  'a push cancelled while it waits': async ({ api, checks, cast }) => {
    const devices = await cast(5)
    await leave(devices)
    const ids = await each(devices, WIDTH, (device) => api.send(push(device, 'never mind')))
    await each(ids, WIDTH, (id) => api.cancel(id))
    checks.equal('status cancelled', 5, await countStatus(api, ids, 'cancelled'))
    await each(devices, WIDTH, (device) => device.connect())
    checks.equal(
      'given to apps',
      0,
      devices.reduce((sum, device) => sum + device.given.length, 0),
    )
    await leave(devices)
  },

  'a user with two devices': async ({ api, checks, cast }) => {
    const mine = await cast(2, { user: 'ada@example.org' })
    const others = await cast(2, { user: 'bob@example.org' })
    await api.send({ ...push(null, 'for Ada'), type: 'user', target: 'ada@example.org' })
    await given(mine, 1)
    checks.equal(
      'given to her apps',
      2,
      mine.reduce((sum, device) => sum + device.given.length, 0),
    )
    checks.equal(
      'given to others',
      0,
      others.reduce((sum, device) => sum + device.given.length, 0),
    )
    await leave([...mine, ...others])
  },

  'a publisher on NATS': async ({ checks, cast, publish }) => {
    const devices = await cast(10)
    for (const device of devices) await publish(push(device, 'from inside'))
    await given(devices, 1)
    checks.equal(
      'given to apps',
      10,
      devices.reduce((sum, device) => sum + device.given.length, 0),
    )
    await leave(devices)
  },
}

/** I4: what app servers sent and apps were given, counted here, is what the project's counters say. */
export async function conservation({ api, checks, ingested, everyone }: Stage): Promise<void> {
  const sent = api.accepted + ingested()
  const isWhole = (t: Record<string, number>) => t.accepted === sent && t.pending === 0
  const totals = await settled(() => api.totals(), isWhole, PATIENCE_MS)
  const given = everyone.reduce((sum, device) => sum + device.unicast, 0)
  const ends = ['delivered', 'expired', 'dropped', 'collapsed', 'cancelled', 'failed']
  const ended = ends.reduce((sum, end) => sum + (totals[end] ?? 0), 0)
  checks.equal('counters: accepted, as sent', sent, totals.accepted ?? 0)
  checks.equal('counters: delivered, as given to apps', given, totals.delivered ?? 0)
  checks.equal(
    'counters: dropped, as told by GAP',
    everyone.reduce((sum, d) => sum + d.missed, 0),
    totals.dropped ?? 0,
  )
  checks.equal('counters: accepted = sum of the ends', totals.accepted ?? 0, ended)
}

function push(device: Actor | null, title: string) {
  const notification = { title, message: 'from the demo', data: { demo: true } }
  return { type: 'device' as const, target: device?.registrationId ?? '', ttl: '10m', notification }
}

async function given(devices: readonly Actor[], count: number): Promise<void> {
  await settled(
    () => devices.every((device) => device.given.length >= count),
    (done) => done,
    PATIENCE_MS,
  )
}

async function countStatus(api: Api, ids: readonly string[], status: string): Promise<number> {
  const found = await each(ids, WIDTH, (id) =>
    settled(
      () => api.status(id),
      (answer) => answer.status === status,
      PATIENCE_MS,
    ),
  )
  return found.filter((answer) => answer.status === status).length
}

async function countTrace(api: Api, ids: readonly string[]): Promise<number> {
  const found = await each(ids, WIDTH, (id) =>
    settled(
      () => api.status(id),
      (answer) => answer.trace.some(({ step }) => step === 'queued'),
      PATIENCE_MS,
    ),
  )
  return found.filter((answer) => answer.trace.some(({ step }) => step === 'queued')).length
}

async function leave(devices: readonly Actor[]): Promise<void> {
  await Promise.all(devices.map((device) => device.disconnect()))
}

function sameSet(got: readonly string[], wanted: readonly (string | undefined)[]): boolean {
  return got.length === wanted.length && wanted.every((id) => id !== undefined && got.includes(id))
}
