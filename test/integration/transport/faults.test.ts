import t from 'tap'
import { Bucket, deviceKey } from '../../../protocol/subjects.js'
import { LineProxy } from '../../faults/proxy.js'
import { startNats } from '../../support/nats.js'
import { RawDevice } from '../../support/raw-device.js'
import { newDevice, startTransport } from '../../support/transport.js'

t.test('after a reconnect to NATS the worker audits its sessions and reads what was queued meanwhile', async (t) => {
  // The worker reconnects last, after the message was queued. Otherwise its audit could run before that and find nothing.
  const nats = await startNats(t)
  const line = await LineProxy.open(() => ({ host: '127.0.0.1', port: nats.server.port }))
  t.teardown(() => line.close())
  const overLine = `nats://127.0.0.1:${line.port}`
  const { worker, credential, enqueue, core } = await startTransport(
    t,
    {},
    {
      ...nats,
      brokerAs: (role, name) => nats.brokerAs(role, name, role === 'transport' ? overLine : nats.url),
    },
  )
  const device = newDevice()
  const raw = await RawDevice.connected(worker.port, { credential: credential(device) })
  const reconnected = new Promise<void>((resolve) => {
    core.onStatus((status) => {
      if (status === 'reconnected') resolve()
    })
  })
  line.set({ mode: 'cut' })
  await nats.restart()
  await reconnected
  // No request asks the worker to read the queue, so only its own audit can find the message.
  await enqueue(device, 41n)
  t.same(raw.waiting, [])
  line.set({ mode: 'pass' })
  t.equal((await raw.until('NOTIFY')).id, 41n)
  raw.ws.close()
})

t.test('a worker whose session record is lost writes it again and reads the queue', async (t) => {
  const { worker, credential, sessions, core, enqueue } = await startTransport(t, { auditMs: 1_000 })
  const device = newDevice()
  const raw = await RawDevice.connected(worker.port, { credential: credential(device), connection: 3 })
  await core.table(Bucket.SESSIONS).delete(deviceKey(device))
  const written = new Promise<void>((resolve) => {
    void core.table(Bucket.SESSIONS).watch(deviceKey(device), (entry) => {
      if (!entry.deleted) resolve()
    })
  })
  await enqueue(device, 1n)
  await written
  t.match(await sessions.lookup(device, { authoritative: true }), { connection: 3, live: true })
  t.equal((await raw.until('NOTIFY')).id, 1n, 'the message in the queue')
  raw.ws.close()
})

t.test('the audit closes a session that another worker has taken over', async (t) => {
  const { worker, credential, sessions } = await startTransport(t, { auditMs: 1_000 })
  const device = newDevice()
  const raw = await RawDevice.connected(worker.port, { credential: credential(device), connection: 3 })
  await sessions.claim(device, { instance: 'other', worker: '0-x', connection: 4 })
  t.match(await raw.closed, { code: 4021 })
  t.match(await sessions.lookup(device, { authoritative: true }), { instance: 'other', live: true })
})

t.test('a draining worker sends GOAWAY, reports the last ACK, closes its devices and ends its lease', async (t) => {
  const { worker, credential, sessions, core, deliver, report } = await startTransport(t)
  const device = newDevice()
  const raw = await RawDevice.connected(worker.port, { credential: credential(device) })
  deliver(device, 1n)
  await raw.until('NOTIFY')
  const stopped = worker.stop()
  t.match(await raw.until('GOAWAY'), { reason: 'shutdown' })
  raw.send({ type: 'ACK', ids: [1n] })
  t.match(await report(1n), { report: 0 }, 'the last acknowledgement is reported')
  t.match(await raw.closed, { code: 1001 })
  await stopped
  t.match(
    await sessions.lookup(device, { authoritative: true }),
    { live: true },
    'no session record is written, because the end of the lease ends all sessions',
  )
  const { instance, worker: name } = worker.worker.owner
  t.equal(await core.table(Bucket.WORKERS).get(`${instance}.${name}`), null)
  await t.rejects(RawDevice.open(worker.port), { code: 'ECONNREFUSED' })
})

t.test('a connection beyond connectionsMax gets 503', async (t) => {
  const { worker } = await startTransport(t, { connectionsMax: 3 })
  const raws = await Promise.all([1, 2, 3].map(() => RawDevice.open(worker.port)))
  await t.rejects(RawDevice.open(worker.port), { message: /503/ })
  for (const raw of raws) raw.cut()
})

t.test('more frames in a second than framesPerSecondMax close with rate_limited', async (t) => {
  const { worker, credential } = await startTransport(t, { framesPerSecondMax: 5 })
  const raw = await RawDevice.connected(worker.port, { credential: credential(newDevice()) })
  // They may fall into two seconds. Twice the allowed number is too much for one of the two in any case.
  for (let i = 0; i < 12; i++) raw.send({ type: 'PING' })
  t.match(await raw.until('ERROR'), { code: 'rate_limited' })
  t.match(await raw.closed, { code: 4032 })
})

t.test('a request of a device that no core answers gets the ERROR unavailable', async (t) => {
  const { worker, credential } = await startTransport(t, { coreTimeoutMs: 300 })
  const raw = await RawDevice.connected(worker.port, { credential: credential(newDevice()) })
  raw.send({ type: 'REGISTER', request: 7, application: 'app_x', userToken: '' })
  t.match(await raw.until('ERROR'), { code: 'unavailable', request: 7 })
  raw.ws.close()
})
