import t from 'tap'
import type { BorealisClient } from '../../../src/device/index.js'
import type { InstanceStatus } from '../../../src/transport/supervisor/instance-status.js'
import { freePort } from '../../../src/transport/supervisor/supervisor.js'
import { until } from '../../support/api.js'
import { run, startInstance } from '../../support/instance.js'

const DEVICES = 20

const sessionsOf = ({ workers }: InstanceStatus) =>
  workers.reduce((sum, { levels }) => sum + (levels?.sessions ?? 0), 0)
const pidsOf = ({ workers }: InstanceStatus) => workers.map(({ pid }) => pid)

/** Records the names of the closes of a device, and counts its ready events, from now on. */
function record(client: BorealisClient): { closes: string[]; readies: number } {
  const events = { closes: [] as string[], readies: 0 }
  client.on('closed', ({ name }) => events.closes.push(name))
  client.on('ready', () => events.readies++)
  return events
}

t.test('a crashed worker is replaced, and only its devices reconnect', { timeout: 120_000 }, async (t) => {
  const instance = await startInstance(t)
  const devices = (await Promise.all(Array.from({ length: DEVICES }, () => instance.device()))).map(record)
  const before = await instance.status()
  t.match(before, { state: 'serving', ready: true, restart: null })
  t.equal(sessionsOf(before), DEVICES)
  const killed = before.workers.find(({ levels }) => (levels?.sessions ?? 0) > 0)
  if (!killed?.levels) throw new Error('no worker has a device')
  process.kill(killed.pid, 'SIGKILL')
  await until('all workers and devices are back', async () => {
    const now = await instance.status()
    const areReady = now.workers.length === 2 && now.workers.every(({ state }) => state === 'ready')
    return !pidsOf(now).includes(killed.pid) && areReady && sessionsOf(now) === DEVICES
  })
  const closed = devices.filter(({ closes }) => closes.length > 0)
  t.equal(closed.length, killed.levels.sessions, 'no device of the other worker was closed')
  t.ok(
    closed.every(({ readies }) => readies === 1),
    'each reconnected once',
  )
  t.match(
    (await instance.status()).workers.find(({ index }) => index === killed.index),
    { crashed: 1, state: 'ready' },
    'the new worker has the index of the killed one',
  )
  t.ok(instance.log.some(({ message, pid }) => message === 'a worker ended' && pid === killed.pid))
})

t.test(
  'a rolling restart replaces each worker, and each device leaves as GOAWAY asks and reconnects',
  { timeout: 120_000 },
  async (t) => {
    const instance = await startInstance(t)
    const devices = (await Promise.all(Array.from({ length: DEVICES }, () => instance.device()))).map(record)
    const before = await instance.status()
    const { code, stdout, stderr } = await run(['rolling-restart'], instance.environment)
    t.equal(code, 0, stderr)
    t.match(stdout, /2 of 2 workers replaced/)
    await until('all devices are back', async () => sessionsOf(await instance.status()) === DEVICES)
    const after = await instance.status()
    t.match(after, { state: 'serving', ready: true, restart: { state: 'done', done: 2, total: 2, reason: '' } })
    t.equal(after.workers.length, 2, 'the old workers are gone')
    t.same(
      pidsOf(after).filter((pid) => pidsOf(before).includes(pid)),
      [],
    )
    t.same([...new Set(devices.flatMap(({ closes }) => closes))], ['bye'], 'each left as GOAWAY asked')
    t.ok(
      devices.every(({ readies, closes }) => readies === closes.length),
      'each reconnected',
    )
    t.equal(instance.log.filter(({ message }) => message === 'rolling restart: replaced').length, 2)
  },
)

t.test(
  'the drain command makes an instance unready, then asks its devices to leave, then ends it',
  { timeout: 120_000 },
  async (t) => {
    const instance = await startInstance(t, { BOREALIS_TRANSPORT_DRAIN_DELAY_MS: '1500' })
    const client = await instance.device()
    t.match(await instance.admin('GET', '/healthz'), { status: 200 })
    t.match(await instance.admin('GET', '/readyz'), { status: 200 })
    const events = record(client)
    const drained = run(['drain'], instance.environment)
    await until('not ready', async () => (await instance.admin('GET', '/readyz')).status === 503)
    t.match(await instance.status(), { state: 'draining', ready: false })
    t.same(events.closes, [], 'the device is still served')
    t.match(await instance.admin('POST', '/restart'), { status: 409 }, 'no restart while it drains')
    t.equal(await instance.ended, 0)
    t.match(await drained, { code: 0, stdout: /draining\n(.*\n)*drained/ })
    t.equal(events.closes[0], 'bye', 'the device left as GOAWAY asked')
    t.match(
      instance.log.map(({ message }) => message).filter((message) => /^drain/.test(String(message))),
      ['drain: begins', /./],
    )
    t.match(await run(['drain'], instance.environment), { code: 1, stderr: /does not answer/ })
  },
)

t.test('the admin port requires its token and refuses requests of browsers', { timeout: 120_000 }, async (t) => {
  const instance = await startInstance(t, { BOREALIS_TRANSPORT_WORKERS: '1', BOREALIS_ADMIN_TOKEN: 'open sesame' })
  t.match(await instance.admin('GET', '/status'), { status: 401 })
  t.match(await instance.admin('POST', '/drain', { authorization: 'Bearer no' }), { status: 401 })
  const good = { authorization: 'Bearer open sesame' }
  t.match(await instance.admin('GET', '/status', good), { status: 200, body: { state: 'serving' } })
  t.match(await instance.admin('POST', '/drain', { ...good, origin: 'http://evil.example' }), { status: 403 })
  t.match(await instance.admin('GET', '/nothing', good), { status: 404 })
  t.match(await instance.admin('GET', '/healthz'), { status: 200 }, '/healthz needs no token')
  t.match(await run(['status'], instance.environment), { code: 0, stdout: /"serving"/ })
  instance.process.kill('SIGTERM')
  t.equal(await instance.ended, 0)
  const withoutToken = { ...instance.environment, BOREALIS_ADMIN_HOST: '0.0.0.0', BOREALIS_ADMIN_TOKEN: '' }
  t.match(await run(['transport'], withoutToken), { code: 1, stderr: /needs a token/ }, 'on all addresses')
})

t.test('the metrics of an instance', { timeout: 120_000 }, async (t) => {
  const metricsPort = await freePort('127.0.0.1', 0)
  const instance = await startInstance(t, { BOREALIS_METRICS_PORT: String(metricsPort) })
  const ask = (path: string) => fetch(`http://127.0.0.1:${metricsPort}${path}`)
  const value = async (series: string): Promise<number> => {
    const lines = (await (await ask('/metrics')).text()).split('\n')
    const line = lines.find((text) => text.startsWith(`borealis_transport_${series}`))
    return line === undefined ? Number.NaN : Number(line.split(' ').at(-1))
  }
  await Promise.all(Array.from({ length: DEVICES }, () => instance.device()))
  const welcomed = 'handshakes_total{outcome="welcomed",part="transport"}'
  await t.test('are the sums over all workers', async (t) => {
    t.equal(await value('sessions{'), DEVICES)
    t.equal(await value('connections{'), DEVICES)
    t.equal(await value(welcomed), DEVICES)
    t.equal(await value('workers{state="ready"'), 2)
    t.equal(await value('nats_connected{'), 2)
    t.equal(await value('leases_held{'), 2)
    t.equal(await value('ready{'), 1)
    t.ok((await value('received_bytes_total{')) > 0)
    t.ok((await value('sent_bytes_total{')) > 0)
    t.equal((await ask('/readyz')).status, 200)
  })

  await t.test('include the counts of workers that a rolling restart replaced', async (t) => {
    const sentBefore = await value('sent_bytes_total{')
    t.equal((await run(['rolling-restart'], instance.environment)).code, 0)
    await until('all devices are back', async () => (await value('sessions{')) === DEVICES)
    t.ok((await value(welcomed)) >= 2 * DEVICES)
    t.ok((await value('sent_bytes_total{')) > sentBefore)
    t.equal(await value('closes_total{reason="bye"'), (await value(welcomed)) - DEVICES)
  })

  await t.test('count a crash, and keep the scraped counts of the crashed worker', async (t) => {
    t.equal(await value('worker_crashes_total{'), 0)
    const [worker] = (await instance.status()).workers
    if (worker) process.kill(worker.pid, 'SIGKILL')
    await until('the crash is counted', async () => (await value('worker_crashes_total{')) === 1)
    t.ok((await value(welcomed)) >= 2 * DEVICES)
  })
})
