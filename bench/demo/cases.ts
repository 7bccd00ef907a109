/** The cases of the demo. Each sends pushes in one way to devices of its own, and counts them at the apps. */
import { type Api, each, settled } from './api.js'
import type { Checks } from './check.js'
import type { DemoDevice } from './device.js'

export interface DemoContext {
  api: Api
  checks: Checks
  /** Makes devices that are enrolled, connected and registered. */
  makeDevices(count: number, role?: { topic?: string; user?: string }): Promise<DemoDevice[]>
  /** Publishes a message on NATS (`push.send.<project>`). */
  publish(body: unknown): Promise<void>
  /** Number of messages that publish() stored. */
  ingested(): number
  /** All devices of all cases. */
  everyDevice: readonly DemoDevice[]
  /** Most messages in the queue of a device. */
  queueMax: number
}

export type Case = (context: DemoContext) => Promise<void>

/** Most requests at a time. */
const WIDTH = 32
/** Longest wait for an outcome. */
const PATIENCE_MS = 20_000

export const cases: Record<string, Case> = {
  'online devices, one push each': async ({ api, checks, makeDevices }) => {
    const devices = await makeDevices(1_000)
    const ids = await each(devices, WIDTH, (device, i) => api.send(push(device, `online ${i}`)))
    await untilReceived(devices, 1)
    checks.equal('received by apps', 1_000, devices.filter((device, i) => device.received.join() === ids[i]).length)
    checks.equal('status delivered', 1_000, await countStatus(api, ids, 'delivered'))
    await leave(devices)
  },

  'offline devices, three pushes each, then connected': async ({ api, checks, makeDevices }) => {
    const devices = await makeDevices(200)
    await leave(devices)
    const ids = await each(devices, WIDTH, async (device) => [
      await api.send(push(device, 'first')),
      await api.send(push(device, 'second')),
      await api.send(push(device, 'third')),
    ])
    await each(devices, WIDTH, (device) => device.connect())
    await untilReceived(devices, 3)
    checks.equal('received by apps', 600, receivedBy(devices))
    checks.equal(
      'devices with their pushes in order',
      200,
      devices.filter((d, i) => d.received.join() === ids[i]?.join()).length,
    )
    checks.equal('status delivered', 600, await countStatus(api, ids.flat(), 'delivered'))
    await leave(devices)
  },

  'one topic push to 500 subscribers, 100 of them offline': async ({ api, checks, makeDevices }) => {
    const devices = await makeDevices(500, { topic: 'news' })
    const away = devices.slice(0, 100)
    await leave(away)
    await api.send({ ...push(null, 'to all'), type: 'topic', target: 'news' })
    await untilReceived(devices.slice(100), 1)
    checks.equal('received while online', 400, receivedBy(devices))
    await each(away, WIDTH, (device) => device.connect())
    await untilReceived(devices, 1)
    checks.equal('received by apps', 500, receivedBy(devices))
    await leave(devices)
  },

  'devices that come back while their old socket is half-open': async ({ api, checks, makeDevices }) => {
    const devices = await makeDevices(50)
    for (const device of devices) device.freeze()
    const before = await each(devices, WIDTH, (device) => api.send(push(device, 'into the dead socket')))
    await each(devices, WIDTH, (device) => device.connect())
    const after = await each(devices, WIDTH, (device) => api.send(push(device, 'to the new one')))
    await untilReceived(devices, 2)
    const complete = devices.filter((device, i) => sameSet(device.received, [before[i], after[i]]))
    checks.equal('devices that received both, once', 50, complete.length)
    checks.equal('status delivered', 100, await countStatus(api, [...before, ...after], 'delivered'))
    await Promise.all(devices.map((device) => device.hangUp()))
    await leave(devices)
  },

  'a time to live that runs out while offline': async ({ api, checks, makeDevices }) => {
    const devices = await makeDevices(5)
    await leave(devices)
    const ids = await each(devices, WIDTH, (device) => api.send({ ...push(device, 'too late'), ttl: '1s' }))
    checks.equal('status expired', 5, await countStatus(api, ids, 'expired'))
    await each(devices, WIDTH, (device) => device.connect())
    checks.equal('received by apps', 0, receivedBy(devices))
    await leave(devices)
  },

  'a collapse key that replaces': async ({ api, checks, makeDevices }) => {
    const devices = await makeDevices(5)
    await leave(devices)
    const send = (device: DemoDevice, title: string) => api.send({ ...push(device, title), collapseKey: 'score' })
    const old = await each(devices, WIDTH, (device) => send(device, '1:0'))
    checks.equal('first push queued', 5, await countQueued(api, old))
    const latest = await each(devices, WIDTH, (device) => send(device, '2:0'))
    checks.equal('status collapsed', 5, await countStatus(api, old, 'collapsed'))
    await each(devices, WIDTH, (device) => device.connect())
    await untilReceived(devices, 1)
    checks.equal(
      'apps that received only the newest',
      5,
      devices.filter((d, i) => d.received.join() === latest[i]).length,
    )
    checks.equal('status delivered', 5, await countStatus(api, latest, 'delivered'))
    await leave(devices)
  },

  'more pushes than the queue of an offline device holds': async ({ api, checks, makeDevices, queueMax }) => {
    const devices = await makeDevices(1)
    await leave(devices)
    const [device] = devices as [DemoDevice]
    const ids: string[] = []
    for (let i = 0; i < queueMax + 20; i++) ids.push(await api.send(push(device, `of many ${i}`)))
    checks.equal('status dropped', 20, await countStatus(api, ids.slice(0, 20), 'dropped'))
    await device.connect()
    await untilReceived(devices, queueMax)
    checks.equal('received by the app', queueMax, device.received.length)
    checks.equal('announced by GAP', 20, device.missed)
    checks.equal('status delivered', queueMax, await countStatus(api, ids.slice(20), 'delivered'))
    await leave(devices)
  },

  'a push cancelled while it waits': async ({ api, checks, makeDevices }) => {
    const devices = await makeDevices(5)
    await leave(devices)
    const ids = await each(devices, WIDTH, (device) => api.send(push(device, 'never mind')))
    await each(ids, WIDTH, (id) => api.cancel(id))
    checks.equal('status cancelled', 5, await countStatus(api, ids, 'cancelled'))
    await each(devices, WIDTH, (device) => device.connect())
    checks.equal('received by apps', 0, receivedBy(devices))
    await leave(devices)
  },

  'a user with two devices': async ({ api, checks, makeDevices }) => {
    const mine = await makeDevices(2, { user: 'ada@example.org' })
    const others = await makeDevices(2, { user: 'bob@example.org' })
    await api.send({ ...push(null, 'for Ada'), type: 'user', target: 'ada@example.org' })
    await untilReceived(mine, 1)
    checks.equal('received by her apps', 2, receivedBy(mine))
    checks.equal('received by others', 0, receivedBy(others))
    await leave([...mine, ...others])
  },

  'a publisher on NATS': async ({ checks, makeDevices, publish }) => {
    const devices = await makeDevices(10)
    for (const device of devices) await publish(push(device, 'from inside'))
    await untilReceived(devices, 1)
    checks.equal('received by apps', 10, receivedBy(devices))
    await leave(devices)
  },
}

/** The counters of the project agree with the messages that were sent and received here (invariant I4). */
export async function conservation({ api, checks, ingested, everyDevice }: DemoContext): Promise<void> {
  const sent = api.accepted + ingested()
  const isWhole = (t: Record<string, number>) => t.accepted === sent && t.pending === 0
  const totals = await settled(() => api.totals(), isWhole, PATIENCE_MS)
  const received = everyDevice.reduce((sum, device) => sum + device.unicast, 0)
  const outcomes = ['delivered', 'expired', 'dropped', 'collapsed', 'cancelled', 'failed']
  const ended = outcomes.reduce((sum, outcome) => sum + (totals[outcome] ?? 0), 0)
  checks.equal('accepted, as sent', sent, totals.accepted ?? 0)
  checks.equal('delivered, as received by apps', received, totals.delivered ?? 0)
  checks.equal(
    'dropped, as announced by GAP',
    everyDevice.reduce((sum, d) => sum + d.missed, 0),
    totals.dropped ?? 0,
  )
  checks.equal('accepted = sum of the outcomes', totals.accepted ?? 0, ended)
}

/** The body of a push. */
function push(device: DemoDevice | null, title: string) {
  const notification = { title, message: 'from the demo', data: { demo: true } }
  return { type: 'device' as const, target: device?.registrationId ?? '', ttl: '10m', notification }
}

const receivedBy = (devices: readonly DemoDevice[]) => devices.reduce((sum, device) => sum + device.received.length, 0)

async function untilReceived(devices: readonly DemoDevice[], count: number): Promise<void> {
  await settled(
    () => devices.every((device) => device.received.length >= count),
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

async function countQueued(api: Api, ids: readonly string[]): Promise<number> {
  const found = await each(ids, WIDTH, (id) =>
    settled(
      () => api.status(id),
      (answer) => answer.trace.some(({ step }) => step === 'queued'),
      PATIENCE_MS,
    ),
  )
  return found.filter((answer) => answer.trace.some(({ step }) => step === 'queued')).length
}

async function leave(devices: readonly DemoDevice[]): Promise<void> {
  await Promise.all(devices.map((device) => device.disconnect()))
}

function sameSet(got: readonly string[], wanted: readonly (string | undefined)[]): boolean {
  return got.length === wanted.length && wanted.every((id) => id !== undefined && got.includes(id))
}
