import t from 'tap'
import { Bucket } from '../../../protocol/subjects.js'
import { RawDevice } from '../../support/raw-device.js'
import { newDevice, startTransport } from '../../support/transport.js'

t.test('a device that connects again takes over, by its connection number', async (t) => {
  const { worker, credential, sessions, deliver, report } = await startTransport(t)
  const device = newDevice()
  const first = await RawDevice.connected(worker.port, { credential: credential(device), connection: 5 })

  const same = await RawDevice.open(worker.port)
  same.hello({ credential: credential(device), connection: 5 })
  t.match(await same.until('ERROR'), { code: 'stale_connection', connection: 5 })
  t.match(await same.closed, { code: 4020 }, 'the same number is refused')

  deliver(device, 10n)
  await first.until('NOTIFY')
  const second = await RawDevice.connected(worker.port, { credential: credential(device), connection: 6 })
  t.match(await first.closed, { code: 4021, reason: 'replaced' })
  t.match(await report(10n), { report: 3 }, 'what was in flight is told as closed')
  t.match(await sessions.lookup(device, { authoritative: true }), { connection: 6, live: true })
  second.ws.close()
})

t.test('the number of a session that has just ended is not taken again', async (t) => {
  const { worker, credential, sessions } = await startTransport(t)
  const device = newDevice()
  const first = await RawDevice.connected(worker.port, { credential: credential(device), connection: 5 })
  first.send({ type: 'BYE' })
  await first.closed
  t.match(await sessions.lookup(device, { authoritative: true }), { live: true }, 'its end is written late')
  const same = await RawDevice.open(worker.port)
  same.hello({ credential: credential(device), connection: 5 })
  t.match(await same.until('ERROR'), { code: 'stale_connection', connection: 5 })
  t.match(await same.closed, { code: 4020 })
  const next = await RawDevice.connected(worker.port, { credential: credential(device), connection: 6 })
  next.ws.close()
})

t.test('to another worker: the table decides, the old worker is told', async (t) => {
  const transport = await startTransport(t)
  const { worker, credential, sessions, startAnother } = transport
  const other = await startAnother()
  const device = newDevice()
  const old = await RawDevice.connected(worker.port, { credential: credential(device), connection: 1 })
  const moved = await RawDevice.connected(other.port, { credential: credential(device), connection: 2 })
  t.match(await old.closed, { code: 4021 })
  const entry = await sessions.lookup(device, { authoritative: true })
  t.match(entry, { connection: 2, live: true, worker: other.worker.owner.worker })

  const late = await RawDevice.open(worker.port)
  late.hello({ credential: credential(device), connection: 1 })
  t.match(await late.until('ERROR'), { code: 'stale_connection', connection: 2 })
  t.match(await late.closed, { code: 4020 })
  t.equal(worker.worker.registry.get(device), null)
  moved.ws.close()
})

t.test('a revoked device: its session ends, and it is refused', async (t) => {
  const { worker, credential, core } = await startTransport(t)
  const device = newDevice()
  const raw = await RawDevice.connected(worker.port, { credential: credential(device), connection: 1 })
  await core.table(Bucket.REVOKED).put(`device.${device}`, Uint8Array.of(1))
  t.match(await raw.closed, { code: 4013 })
  const again = await RawDevice.open(worker.port)
  again.hello({ credential: credential(device), connection: 2 })
  t.match(await again.closed, { code: 4013 })
})

t.test('a control request closes only what is older', async (t) => {
  const { worker, credential, control } = await startTransport(t)
  const device = newDevice()
  const raw = await RawDevice.connected(worker.port, { credential: credential(device), connection: 7 })
  t.equal(await control({ kind: 'close', device, reason: 'replaced', belowConnection: 7 }), 'here')
  t.equal(await control({ kind: 'close', device, reason: 'replaced', belowConnection: 8 }), 'not_here')
  t.match(await raw.closed, { code: 4021 })
  t.equal(await control({ kind: 'catch_up', device }), 'not_here')
})
