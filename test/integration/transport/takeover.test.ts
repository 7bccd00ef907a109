import t from 'tap'
import { Bucket } from '../../../protocol/subjects.js'
import { cutOffFleet } from '../../../src/store/revoked.js'
import { CONNECTION_STEP } from '../../../src/store/sessions.js'
import { RawDevice } from '../../support/raw-device.js'
import { FLEET, newDevice, startTransport } from '../../support/transport.js'

t.test('a connection with the number of the live session is refused as stale_connection', async (t) => {
  const { worker, credential } = await startTransport(t)
  const device = newDevice()
  const first = await RawDevice.connected(worker.port, { credential: credential(device), connection: 5 })
  const second = await RawDevice.open(worker.port)
  second.hello({ credential: credential(device), connection: 5 })
  t.match(await second.until('ERROR'), { code: 'stale_connection', connection: 5 })
  t.match(await second.closed, { code: 4020 })
  first.ws.close()
})

t.test('a connection with a greater number takes over, and messages in flight are reported as closed', async (t) => {
  const { worker, credential, sessions, deliver, report } = await startTransport(t)
  const device = newDevice()
  const first = await RawDevice.connected(worker.port, { credential: credential(device), connection: 5 })
  deliver(device, 10n)
  await first.until('NOTIFY')
  const second = await RawDevice.connected(worker.port, { credential: credential(device), connection: 6 })
  t.match(await first.closed, { code: 4021, reason: 'replaced' })
  t.match(await report(10n), { report: 3 })
  t.match(await sessions.lookup(device, { authoritative: true }), { connection: 6, live: true })
  second.ws.close()
})

t.test('the connection number of a session that has just ended is refused, and the next one accepted', async (t) => {
  const { worker, credential, sessions } = await startTransport(t)
  const device = newDevice()
  const first = await RawDevice.connected(worker.port, { credential: credential(device), connection: 5 })
  first.send({ type: 'BYE' })
  await first.closed
  t.match(await sessions.lookup(device, { authoritative: true }), { live: true }, 'the end is written later')
  const same = await RawDevice.open(worker.port)
  same.hello({ credential: credential(device), connection: 5 })
  t.match(await same.until('ERROR'), { code: 'stale_connection', connection: 5 })
  t.match(await same.closed, { code: 4020 })
  const next = await RawDevice.connected(worker.port, { credential: credential(device), connection: 6 })
  next.ws.close()
})

t.test('a device that moves to another worker is closed at the old one, which refuses its old number', async (t) => {
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

t.test(
  'the session of a revoked device is closed with 4013, and its next connection is refused with 4013',
  async (t) => {
    const { worker, credential, core } = await startTransport(t)
    const device = newDevice()
    const raw = await RawDevice.connected(worker.port, { credential: credential(device), connection: 1 })
    await core.table(Bucket.REVOKED).put(`device.${device}`, Uint8Array.of(1))
    t.match(await raw.closed, { code: 4013 })
    const again = await RawDevice.open(worker.port)
    again.hello({ credential: credential(device), connection: 2 })
    t.match(await again.closed, { code: 4013 })
  },
)

t.test('a close request closes only sessions with a connection number below belowConnection', async (t) => {
  const { worker, credential, control } = await startTransport(t)
  const device = newDevice()
  const raw = await RawDevice.connected(worker.port, { credential: credential(device), connection: 7 })
  t.equal(await control({ kind: 'close', device, reason: 'replaced', belowConnection: 7 }), 'here')
  t.equal(await control({ kind: 'close', device, reason: 'replaced', belowConnection: 8 }), 'not_here')
  t.match(await raw.closed, { code: 4021 })
  t.equal(await control({ kind: 'catch_up', device }), 'not_here')
})

t.test('a connection number beyond the step is refused as connection_ahead, and one within it accepted', async (t) => {
  const { worker, credential, sessions } = await startTransport(t)
  const device = newDevice()
  const own = await RawDevice.connected(worker.port, { credential: credential(device), connection: 5 })
  // With a stolen token, the greatest number would lock the device out.
  const thief = await RawDevice.open(worker.port)
  thief.hello({ credential: credential(device), connection: Number.MAX_SAFE_INTEGER })
  t.match(await thief.until('ERROR'), { code: 'connection_ahead', connection: 5 })
  t.match(await thief.closed, { code: 4022 })
  const far = await RawDevice.open(worker.port)
  far.hello({ credential: credential(device), connection: 6 + CONNECTION_STEP })
  t.match(await far.closed, { code: 4022 }, 'one beyond the step')
  t.match(await sessions.lookup(device, { authoritative: true }), { connection: 5, live: true })
  const reserved = await RawDevice.connected(worker.port, { credential: credential(device), connection: 1_005 })
  t.match(await own.closed, { code: 4021 }, 'a device may reserve a block of numbers')
  reserved.ws.close()
})

t.test(
  'a renewed token may connect with a lower number, and connections with the older token are refused',
  async (t) => {
    const { worker, credential, tokenOf, sessions, startAnother } = await startTransport(t)
    const other = await startAnother()
    const device = newDevice()
    const renewed = { kind: 'token', token: tokenOf(device, 3_600_000, 10_000) } as const
    const older = await RawDevice.connected(worker.port, { credential: credential(device), connection: 2 ** 48 })
    const newer = await RawDevice.connected(other.port, { credential: renewed, connection: 7 })
    t.match(await older.closed, { code: 4021 }, 'the older session, although its number is greater')
    for (const { port } of [worker, other]) {
      const late = await RawDevice.open(port)
      late.hello({ credential: credential(device), connection: 2 ** 48 + 1 })
      t.match(await late.closed, { code: 4011 }, 'the older token')
    }
    t.match(await sessions.lookup(device, { authoritative: true }), { connection: 7, live: true })
    newer.ws.close()
  },
)

t.test('an open session is closed as token_expired at the end of its token, and others stay', async (t) => {
  const { worker, tokenOf } = await startTransport(t)
  const [device, other] = [newDevice(), newDevice()]
  // The token has expired, except for the tolerance for clocks that differ.
  const token = tokenOf(device, 1_000, -57_000)
  const ending = await RawDevice.connected(worker.port, { credential: { kind: 'token', token }, connection: 1 })
  const lasting = await RawDevice.connected(worker.port, {
    credential: { kind: 'token', token: tokenOf(other) },
    connection: 1,
  })
  const startedAtMs = Date.now()
  const pings = setInterval(() => ending.send({ type: 'PING' }), 1_000)
  t.match(await ending.closed, { code: 4011, reason: 'token_expired' })
  clearInterval(pings)
  t.ok(Date.now() - startedAtMs < 20_000, 'within a round of the sweep')
  lasting.send({ type: 'PING' })
  t.ok(await lasting.until('PONG'), 'the other session')
  lasting.ws.close()
})

t.test(
  'cutting off a fleet at a time ends sessions, tokens and tickets from before it, and none from after it',
  async (t) => {
    const { worker, core, tokenOf } = await startTransport(t)
    const [device, other] = [newDevice(), newDevice()]
    const before = { kind: 'token', token: tokenOf(device) } as const
    const after = { kind: 'token', token: tokenOf(other, 3_600_000, 30_000) } as const
    const old = await RawDevice.open(worker.port)
    old.hello({ credential: before, connection: 1 })
    const { ticket } = await old.until('WELCOME')
    const fresh = await RawDevice.connected(worker.port, { credential: after, connection: 1 })
    await cutOffFleet(core.table(Bucket.REVOKED), FLEET, Date.now() + 15_000)
    t.match(await old.closed, { code: 4010 })
    for (const credential of [before, { kind: 'ticket', ticket } as const]) {
      const refused = await RawDevice.open(worker.port)
      refused.hello({ credential, connection: 2 })
      t.match(await refused.closed, { code: 4010 }, credential.kind)
    }
    fresh.send({ type: 'PING' })
    t.ok(await fresh.until('PONG'), 'the session of a token that was issued later')
    fresh.ws.close()
  },
)
