import t from 'tap'
import { Report } from '../../../protocol/envelope.js'
import { RawDevice } from '../../support/raw-device.js'
import { newDevice, startTransport } from '../../support/transport.js'

async function takeNotifies(raw: RawDevice, count: number): Promise<bigint[]> {
  const ids: bigint[] = []
  while (ids.length < count) ids.push((await raw.until('NOTIFY')).id)
  return ids
}

t.test('queued messages are sent at connect, oldest first, as far as the window allows', async (t) => {
  const { worker, credential, enqueue, settlement, queued } = await startTransport(t, { windowMax: 3 })
  const device = newDevice()
  for (const id of [1n, 2n, 3n, 4n, 5n]) await enqueue(device, id)
  const raw = await RawDevice.open(worker.port)
  raw.hello({ credential: credential(device) })
  await raw.until('WELCOME')
  t.same(await takeNotifies(raw, 3), [1n, 2n, 3n])
  raw.send({ type: 'PING' })
  t.equal((await raw.next())?.type, 'PONG', 'no fourth message before an acknowledgement')
  raw.send({ type: 'ACK', ids: [1n, 2n] })
  t.same(await takeNotifies(raw, 2), [4n, 5n])
  t.equal((await raw.next())?.type, 'CAUGHT_UP')
  raw.send({ type: 'ACK', ids: [3n, 4n, 5n] })
  for (const id of [1n, 2n, 3n, 4n, 5n]) t.match(await settlement(id), { id, device, project: 'acme' })
  t.equal(await queued.last(device), null, 'the queue is empty')
  raw.ws.close()
})

t.test('an overflow of the queue is sent as one GAP with its mark, and not again at the next connect', async (t) => {
  const { worker, credential, enqueue } = await startTransport(t)
  const device = newDevice()
  await enqueue(device, 1n, { queue: 9n })
  await enqueue(device, 2n, { queue: 9n, dropped: 12 })
  const raw = await RawDevice.open(worker.port)
  raw.hello({ credential: credential(device), connection: 1, gap: { queue: 9n, count: 7 } })
  await raw.until('WELCOME')
  t.match(await raw.next(), { type: 'GAP', count: 5, reason: 'queue_overflow', mark: { queue: 9n, count: 12 } })
  raw.cut()
  await raw.closed
  const again = await RawDevice.connected(worker.port, {
    credential: credential(device),
    connection: 2,
    gap: { queue: 9n, count: 12 },
  })
  t.notOk(again.received.some(({ type }) => type === 'GAP'))
  again.ws.close()
})

t.test('a catch_up request makes a live session read its queue', async (t) => {
  const { worker, credential, enqueue, control, settlement } = await startTransport(t)
  const device = newDevice()
  const raw = await RawDevice.connected(worker.port, { credential: credential(device) })
  await enqueue(device, 21n)
  t.equal(await control({ kind: 'catch_up', device }), 'here')
  t.equal((await raw.until('NOTIFY')).id, 21n)
  raw.send({ type: 'ACK', ids: [21n] })
  t.match(await settlement(21n), { device })
  raw.ws.close()
})

t.test('a message in flight that is also queued is sent once, and its ACK is both reported and settled', async (t) => {
  const { worker, credential, enqueue, control, settlement, deliver, report } = await startTransport(t)
  const device = newDevice()
  const raw = await RawDevice.connected(worker.port, { credential: credential(device) })
  deliver(device, 31n)
  await raw.until('NOTIFY')
  await enqueue(device, 31n)
  await control({ kind: 'catch_up', device })
  deliver(device, 32n)
  t.equal((await raw.until('NOTIFY')).id, 32n, 'not sent again')
  raw.send({ type: 'ACK', ids: [31n, 32n] })
  t.match(await report(31n), { report: Report.ACKED })
  t.match(await settlement(31n), { device })
  t.equal(raw.received.filter(({ type }) => type === 'NOTIFY').length, 2)
  raw.ws.close()
})

t.test('after a full window messages are refused until the queue is read, so that they keep their order', async (t) => {
  const { worker, credential, enqueue, control, deliver, report } = await startTransport(t, { windowMax: 2 })
  const device = newDevice()
  const raw = await RawDevice.connected(worker.port, { credential: credential(device) })
  for (const id of [1n, 2n, 3n]) deliver(device, id)
  t.match(await report(3n), { report: Report.WINDOW_FULL })
  raw.send({ type: 'ACK', ids: [1n, 2n] })
  await report(2n)
  deliver(device, 4n)
  t.match(await report(4n), { report: Report.WINDOW_FULL }, 'a later message would overtake the refused one')
  await enqueue(device, 3n)
  await enqueue(device, 4n)
  // The message follows the request on the same connection, so it arrives before the worker can read the queue.
  const answered = control({ kind: 'catch_up', device })
  deliver(device, 5n)
  await answered
  t.same(await takeNotifies(raw, 4), [1n, 2n, 3n, 4n])
  raw.send({ type: 'ACK', ids: [3n, 4n] })
  t.equal((await raw.until('NOTIFY')).id, 5n, 'held during the catch-up')
  raw.ws.close()
})

t.test(
  'a message that is expired when the router sends it is reported as expired, even if the clocks differ by an hour',
  async (t) => {
    const { worker, credential, deliver, report } = await startTransport(t)
    const device = newDevice()
    const raw = await RawDevice.connected(worker.port, { credential: credential(device) })
    const hourMs = 3_600_000
    for (const [id, atMs] of [Date.now() - hourMs, Date.now() + hourMs].entries()) {
      deliver(device, BigInt(2 * id + 1), { atMs, expiresAtMs: atMs })
      t.match(await report(BigInt(2 * id + 1)), { report: Report.EXPIRED })
      deliver(device, BigInt(2 * id + 2), { atMs, expiresAtMs: atMs + 5_000 })
      t.equal((await raw.until('NOTIFY')).id, BigInt(2 * id + 2), 'a message with 5 s left is delivered')
    }
    raw.ws.close()
  },
)

t.test('queued messages that are read together leave in one WebSocket message', async (t) => {
  const { worker, credential, enqueue, control } = await startTransport(t)
  const device = newDevice()
  const raw = await RawDevice.connected(worker.port, { credential: credential(device) })
  for (const id of [1n, 2n, 3n]) await enqueue(device, id)
  const before = raw.messages.length
  await control({ kind: 'catch_up', device })
  t.same(await takeNotifies(raw, 3), [1n, 2n, 3n])
  t.equal(raw.messages.length - before, 1)
  raw.ws.close()
})
