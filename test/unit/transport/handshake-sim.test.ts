/**
 * The order of a handshake is: register the session in the worker, write its record, read the queue. These tests let a
 * router act between two of the steps, on virtual time and with a session table whose writes the test delays.
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

/** A broker whose session table is written by `put`, which gets the real table. */
function withSessionWrites(put: (table: Table, ...write: Parameters<Table['put']>) => Promise<number>) {
  return (broker: Broker): Broker =>
    overriding(broker, {
      table: (name) => {
        const table = broker.table(name)
        return name === Bucket.SESSIONS ? overriding(table, { put: (...write) => put(table, ...write) }) : table
      },
    })
}

t.test('a worker answers "here" as soon as the session is stored, before it sends WELCOME', async (t) => {
  let stored = false
  const over = withSessionWrites(async (table, ...write) => {
    const revision = await table.put(...write)
    stored = true
    // The answer is slow: a router sees the session already, and the worker does not know yet that it is written.
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
  t.equal(phone.ofType('WELCOME'), 0, 'the device has no WELCOME yet')
  await clock.advance(SLOW_MS)
  t.equal(phone.ofType('WELCOME'), 1)
  await stop()
})

t.test('a message enqueued just before the session is stored is delivered by the handshake', async (t) => {
  // A router enqueues and finds no session, so it notifies no worker. Then the session is stored.
  const over = withSessionWrites(async (table, ...write) => {
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

t.test('a connection number is refused as stale while the end of its session waits to be written', async (t) => {
  const { clock, device, connect, stop } = await oneWorker()
  const first = connect(null, device, 5)
  await clock.advance(1_000)
  t.equal(first.ofType('WELCOME'), 1)
  first.end.close()
  await clock.advance(1_000)
  // The device gave this attempt up long ago.
  const late = connect(null, device, 5)
  await clock.advance(1_000)
  t.same(late.closes, [Close.stale_connection.code])
  const next = connect(null, device, 6)
  await clock.advance(1_000)
  t.equal(next.ofType('WELCOME'), 1)
  await stop()
})

t.test('a ticket with the connection number of its own session is refused as stale', async (t) => {
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
