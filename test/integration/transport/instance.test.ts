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

/** Collects the names of the closes of a device, and counts how often it was ready, from now on. */
function watch(client: BorealisClient): { closes: string[]; readies: number } {
  const seen = { closes: [] as string[], readies: 0 }
  client.on('closed', ({ name }) => seen.closes.push(name))
  client.on('ready', () => seen.readies++)
  return seen
}

t.test('a crashed worker is replaced, and only its devices reconnect', { timeout: 120_000 }, async (t) => {
  const instance = await startInstance(t)
  const seen = (await Promise.all(Array.from({ length: DEVICES }, () => instance.device()))).map(watch)
  const before = await instance.status()
  t.match(before, { state: 'serving', ready: true, restart: null })
  t.equal(sessionsOf(before), DEVICES)
  const victim = before.workers.find(({ levels }) => (levels?.sessions ?? 0) > 0)
  if (!victim?.levels) throw new Error('no worker has a device')
  process.kill(victim.pid, 'SIGKILL')
  await until('all are back', async () => {
    const now = await instance.status()
    const areReady = now.workers.length === 2 && now.workers.every(({ state }) => state === 'ready')
    return !pidsOf(now).includes(victim.pid) && areReady && sessionsOf(now) === DEVICES
  })
  const hit = seen.filter(({ closes }) => closes.length > 0)
  t.equal(hit.length, victim.levels.sessions, 'no other device was closed')
  t.ok(hit.every(({ readies }) => readies === 1))
  t.match(
    (await instance.status()).workers.find(({ index }) => index === victim.index),
    { crashed: 1, state: 'ready' },
    'with the same index',
  )
  t.ok(instance.log.some(({ message, pid }) => message === 'a worker ended' && pid === victim.pid))
})

t.test(
  'a rolling restart replaces every worker, and each device moves when it is asked to',
  { timeout: 120_000 },
  async (t) => {
    const instance = await startInstance(t)
    const seen = (await Promise.all(Array.from({ length: DEVICES }, () => instance.device()))).map(watch)
    const before = await instance.status()
    const { code, stdout, stderr } = await run(['rolling-restart'], instance.environment)
    t.equal(code, 0, stderr)
    t.match(stdout, /2 of 2 workers replaced/)
    await until('all are back', async () => sessionsOf(await instance.status()) === DEVICES)
    const after = await instance.status()
    t.match(after, { state: 'serving', ready: true, restart: { state: 'done', done: 2, total: 2, reason: '' } })
    t.equal(after.workers.length, 2, 'the old workers are gone')
    t.same(
      pidsOf(after).filter((pid) => pidsOf(before).includes(pid)),
      [],
    )
    t.same(
      [...new Set(seen.flatMap(({ closes }) => closes))],
      ['bye'],
      'no device was cut off: each left as GOAWAY asked',
    )
    t.ok(
      seen.every(({ readies, closes }) => readies === closes.length),
      'each came back',
    )
    t.equal(instance.log.filter(({ message }) => message === 'rolling restart: replaced').length, 2)
  },
)

t.test(
  'the drain command makes an instance unready, then asks devices to leave, then ends it',
  { timeout: 120_000 },
  async (t) => {
    const instance = await startInstance(t, { BOREALIS_TRANSPORT_DRAIN_DELAY_MS: '1500' })
    const client = await instance.device()
    t.match(await instance.admin('GET', '/healthz'), { status: 200 })
    t.match(await instance.admin('GET', '/readyz'), { status: 200 })
    const seen = watch(client)
    const drained = run(['drain'], instance.environment)
    await until('not ready', async () => (await instance.admin('GET', '/readyz')).status === 503)
    t.match(await instance.status(), { state: 'draining', ready: false })
    t.same(seen.closes, [], 'its device is still served')
    t.match(await instance.admin('POST', '/restart'), { status: 409 })
    t.equal(await instance.ended, 0)
    t.match(await drained, { code: 0, stdout: /draining\n(.*\n)*drained/ })
    t.equal(seen.closes[0], 'bye', 'the device left as GOAWAY asked')
    t.match(
      instance.log.map(({ message }) => message).filter((message) => /^drain/.test(String(message))),
      ['drain: begins', /./],
    )
    t.match(await run(['drain'], instance.environment), { code: 1, stderr: /does not answer/ })
  },
)

t.test('the admin port demands its token and refuses requests of browsers', { timeout: 120_000 }, async (t) => {
  const instance = await startInstance(t, { BOREALIS_TRANSPORT_WORKERS: '1', BOREALIS_ADMIN_TOKEN: 'open sesame' })
  t.match(await instance.admin('GET', '/status'), { status: 401 })
  t.match(await instance.admin('POST', '/drain', { authorization: 'Bearer no' }), { status: 401 })
  const good = { authorization: 'Bearer open sesame' }
  t.match(await instance.admin('GET', '/status', good), { status: 200, body: { state: 'serving' } })
  t.match(await instance.admin('POST', '/drain', { ...good, origin: 'http://evil.example' }), { status: 403 })
  t.match(await instance.admin('GET', '/nothing', good), { status: 404 })
  t.match(await instance.admin('GET', '/healthz'), { status: 200 }, 'health needs no token')
  t.match(await run(['status'], instance.environment), { code: 0, stdout: /"serving"/ })
  instance.process.kill('SIGTERM')
  t.equal(await instance.ended, 0)
  const open = { ...instance.environment, BOREALIS_ADMIN_HOST: '0.0.0.0', BOREALIS_ADMIN_TOKEN: '' }
  t.match(await run(['transport'], open), { code: 1, stderr: /needs a token/ })
})

t.test(
  'metrics are summed over all workers and do not fall when a worker is replaced',
  { timeout: 120_000 },
  async (t) => {
    const metricsPort = await freePort('127.0.0.1', 0)
    const instance = await startInstance(t, { BOREALIS_METRICS_PORT: String(metricsPort) })
    const ask = (path: string) => fetch(`http://127.0.0.1:${metricsPort}${path}`)
    const value = async (series: string): Promise<number> => {
      const lines = (await (await ask('/metrics')).text()).split('\n')
      const line = lines.find((one) => one.startsWith(`borealis_transport_${series}`))
      return line === undefined ? Number.NaN : Number(line.split(' ').at(-1))
    }
    await Promise.all(Array.from({ length: DEVICES }, () => instance.device()))
    const welcomed = 'handshakes_total{outcome="welcomed",part="transport"}'
    t.equal(await value('sessions{'), DEVICES)
    t.equal(await value('connections{'), DEVICES)
    t.equal(await value(welcomed), DEVICES)
    t.equal(await value('workers{state="ready"'), 2)
    t.equal(await value('nats_connected{'), 2)
    t.equal(await value('leases_held{'), 2)
    t.equal(await value('ready{'), 1)
    t.ok((await value('received_bytes_total{')) > 0)
    const sentBefore = await value('sent_bytes_total{')
    t.ok(sentBefore > 0)
    t.equal((await ask('/readyz')).status, 200)
    t.equal((await run(['rolling-restart'], instance.environment)).code, 0)
    await until('all are back', async () => (await value('sessions{')) === DEVICES)
    t.ok((await value(welcomed)) >= 2 * DEVICES, 'the counts of the old workers are included')
    t.ok((await value('sent_bytes_total{')) > sentBefore)
    t.equal(await value('closes_total{reason="bye"'), (await value(welcomed)) - DEVICES)
    t.equal(await value('worker_crashes_total{'), 0)
    const [worker] = (await instance.status()).workers
    if (worker) process.kill(worker.pid, 'SIGKILL')
    await until('the crash is counted', async () => (await value('worker_crashes_total{')) === 1)
    t.ok((await value(welcomed)) >= 2 * DEVICES, 'a crash does not lower a count that was scraped')
  },
)
