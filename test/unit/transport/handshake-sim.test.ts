/**
 * The order of a handshake (registered, written, read), seen by a router that does its worst in between: on virtual
 * time, with a table that takes the session when the test says so.
 */
import t from 'tap'
import { Close } from '../../../protocol/close-codes.js'
import { decodeControlReply, encodeControlRequest } from '../../../protocol/envelope.js'
import { Bucket, controlSubject } from '../../../protocol/subjects.js'
import { sleep } from '../../../src/clock.js'
import type { Broker, Table } from '../../../src/nats/broker.js'
import { SessionTable } from '../../../src/store/sessions.js'
import { overriding } from '../../support/overriding.js'
import { oneWorker } from './one-worker.js'

const SLOW_MS = 500

/** A broker whose session table is written by `put`, given the true one. */
function writing(put: (table: Table, ...write: Parameters<Table['put']>) => Promise<number>) {
  return (broker: Broker): Broker =>
    overriding(broker, {
      table: (name) => {
        const table = broker.table(name)
        return name === Bucket.SESSIONS ? overriding(table, { put: (...write) => put(table, ...write) }) : table
      },
    })
}

t.test('from the moment its session is stored, a device is here for whoever asks', async (t) => {
  let stored = false
  const over = writing(async (table, ...write) => {
    const revision = await table.put(...write)
    stored = true
    // On its way back: a router sees the session already, and the worker does not know yet that it was written.
    await sleep(stage.clock, SLOW_MS)
    return revision
  })
  const stage = await oneWorker({ over })
  const { clock, core, device, worker, connect, stop } = stage
  const phone = connect()
  for (let ms = 0; ms < 1_000 && !stored; ms++) await clock.advance(1)
  t.ok(stored)
  const { instance, worker: name } = worker.owner
  const request = encodeControlRequest({ kind: 'catch_up', device })
  const answer = core.bus.request(controlSubject(instance, name), request, { timeoutMs: SLOW_MS / 2 })
  t.equal(decodeControlReply(await clock.advanceUntil(answer)), 'here')
  t.equal(phone.ofType('WELCOME'), 0, 'long before it is welcomed')
  await clock.advance(SLOW_MS)
  t.equal(phone.ofType('WELCOME'), 1)
  await stop()
})

t.test('what was queued before the session was stored comes with the handshake', async (t) => {
  // A router enqueues, looks, and finds no session; then the session is stored. Nobody else tells this worker.
  const over = writing(async (table, ...write) => {
    await sleep(stage.clock, SLOW_MS)
    await stage.enqueue(41n)
    return table.put(...write)
  })
  const stage = await oneWorker({ over })
  const { clock, connect, stop } = stage
  const phone = connect()
  await clock.advance(SLOW_MS + 100)
  t.equal(phone.ofType('WELCOME'), 1)
  t.same(
    phone.frames.flatMap((frame) => (frame.type === 'NOTIFY' ? [frame.id] : [])),
    [41n],
  )
  await stop()
})

t.test('while the end of a session waits to be written, its number is not good a second time', async (t) => {
  const { clock, device, connect, stop } = await oneWorker()
  const first = connect(null, device, 5)
  await clock.advance(1_000)
  t.equal(first.ofType('WELCOME'), 1)
  first.end.close()
  await clock.advance(1_000)
  // Of an attempt that the device gave up long ago.
  const late = connect(null, device, 5)
  await clock.advance(1_000)
  t.same(late.closes, [Close.stale_connection.code])
  const next = connect(null, device, 6)
  await clock.advance(1_000)
  t.equal(next.ofType('WELCOME'), 1)
  await stop()
})

t.test('a ticket does not make a number good that its own session had', async (t) => {
  const { clock, core, device, resume, stop } = await oneWorker()
  const elsewhere = { instance: 'i', worker: 'gone', connection: 5 }
  const sessions = new SessionTable(core.table(Bucket.SESSIONS), clock)
  const claim = await clock.advanceUntil(sessions.claim(device, elsewhere))
  const ticket = { ...elsewhere, device, revision: claim.ok ? claim.revision : 0 }
  const late = resume(ticket, 5)
  await clock.advance(1_000)
  t.same(late.closes, [Close.stale_connection.code])
  const next = resume(ticket, 6)
  await clock.advance(1_000)
  t.equal(next.ofType('WELCOME'), 1)
  await stop()
})
