import { once } from 'node:events'
import { Packr } from 'msgpackr'
import t from 'tap'
import { EMPTY_MESSAGE } from '../../protocol/frame.js'
import type { DeviceError } from '../../src/device/index.js'
import { notify, welcome } from './scripted-server.js'
import { client, event, Inbox, memory, server } from './support.js'

t.test('hello, welcome, a push: persisted, acknowledged, handed over once', async (t) => {
  const transport = await server(t)
  const store = memory()
  const device = client(t, transport.url, store)
  const inbox = new Inbox(device)
  device.connect()
  const peer = await transport.connection()
  const hello = await peer.next('HELLO')
  t.match(hello, { version: 1, connection: 1, credential: { kind: 'token', token: 'token' }, cursor: null, gap: null })
  const ready = event(device, 'ready')
  peer.send(welcome())
  t.match(await ready, { connection: 1, subscriptions: 1, resumed: false })

  const data = new Packr({ useRecords: false }).pack({ a: [1, 'x'], b: { c: true } })
  peer.send(notify(11n, { data, collapseKey: 'k', priority: 'high' }), notify(12n))
  t.same((await peer.next('ACK')).ids, [11n, 12n], 'one ACK for one turn')
  const [first, second] = await inbox.next(2)
  t.match(first, { id: '11', data: { a: [1, 'x'], b: { c: true } }, priority: 'high', possibleDuplicate: false })
  t.equal(second?.id, '12')

  peer.send(notify(11n))
  t.same((await peer.next('ACK')).ids, [11n], 'a duplicate is acknowledged too')
  peer.send(notify(13n))
  t.same(
    (await inbox.next(3)).map((n) => n.id),
    ['11', '12', '13'],
    'and not handed over',
  )
  t.equal(store.state.inbox.size, 0)
})

t.test('comes back with a ticket and a greater number; duplicates are known across connections', async (t) => {
  const transport = await server(t)
  const device = client(t, transport.url, memory())
  const inbox = new Inbox(device)
  device.connect()
  const first = await transport.welcomed()
  first.send(notify(1n))
  await first.next('ACK')
  first.terminate()
  const second = await transport.connection()
  const hello = await second.next('HELLO')
  t.equal(hello.connection, 2)
  t.match(hello.credential, { kind: 'ticket', ticket: new Uint8Array([1, 2, 3]) })
  second.send(welcome(), notify(1n), notify(2n))
  t.same((await second.next('ACK')).ids, [1n, 2n])
  t.same(
    (await inbox.next(2)).map((n) => n.id),
    ['1', '2'],
  )
})

t.test('stale_connection: raises its number above what the server names', async (t) => {
  const transport = await server(t)
  const device = client(t, transport.url, memory())
  device.connect()
  const first = await transport.connection()
  t.equal((await first.next('HELLO')).connection, 1)
  const error = { type: 'ERROR', code: 'stale_connection', detail: '', request: 0, retryAfterMs: 0 } as const
  first.send({ ...error, connection: 5_000 })
  first.close('stale_connection')
  const second = await transport.connection()
  t.equal((await second.next('HELLO')).connection, 5_001)
})

t.test('stale_connection without a number: raises in growing steps until it is let in', async (t) => {
  const transport = await server(t)
  const device = client(t, transport.url, memory())
  device.connect()
  let last = 0
  let refusals = 0
  for (;;) {
    const peer = await transport.connection()
    const { connection } = await peer.next('HELLO')
    t.equal(connection, refusals === 0 ? 1 : last + 16 ** refusals)
    last = connection
    if (connection > 1_000) break
    refusals++
    peer.close('stale_connection')
  }
  t.equal(refusals, 3, 'steps of 16, 256, 4096')
})

t.test('bad_ticket: forgets it and comes back with the token', async (t) => {
  const transport = await server(t)
  const device = client(t, transport.url, memory())
  device.connect()
  const first = await transport.welcomed()
  first.terminate()
  const second = await transport.connection()
  t.equal((await second.next('HELLO')).credential?.kind, 'ticket')
  second.close('bad_ticket')
  const third = await transport.connection()
  t.equal((await third.next('HELLO')).credential?.kind, 'token')
})

t.test('revoked: a fatal error, and it does not come back', async (t) => {
  const transport = await server(t)
  const device = client(t, transport.url, memory())
  device.connect()
  const errors = once(device, 'error')
  const closed = event<{ reconnectInMs: number | null }>(device, 'closed')
  const peer = await transport.connection()
  await peer.next('HELLO')
  peer.close('revoked')
  const [error] = (await errors) as [DeviceError]
  t.match(error, { code: 'closed_by_server', serverCode: 'revoked', fatal: true })
  t.equal((await closed).reconnectInMs, null)
  t.equal(device.state, 'stopped')
  await t.rejects(device.register('app_x'), { code: 'stopped' })
})

t.test('GOAWAY: leaves by itself at the hinted time, to the named address', async (t) => {
  const here = await server(t)
  const there = await server(t)
  const device = client(t, here.url, memory(), { random: () => 0.5 })
  device.connect()
  const peer = await here.welcomed()
  const asked = Date.now()
  peer.send({ type: 'GOAWAY', reason: 'rebalance', afterMs: 80, jitterMs: 40, url: there.url })
  await peer.next('BYE')
  const elsewhere = await there.connection()
  const waitedMs = Date.now() - asked
  t.ok(waitedMs >= 99, `came after ${waitedMs} ms`)
  t.equal((await elsewhere.next('HELLO')).connection, 2)
})

t.test('a weaker transport is no place to go', async (t) => {
  const here = await server(t)
  const device = client(t, here.url, memory())
  device.connect()
  const peer = await here.welcomed()
  peer.send({ type: 'GOAWAY', reason: 'shutdown', afterMs: 0, jitterMs: 5, url: 'http://127.0.0.1:1' })
  const again = await here.connection()
  t.equal((await again.next('HELLO')).connection, 2)
})

t.test('ERROR retry_after and Retry-After are floors of the next attempt', async (t) => {
  const transport = await server(t)
  const device = client(t, transport.url, memory())
  device.connect()
  const peer = await transport.connection()
  await peer.next('HELLO')
  const asked = Date.now()
  peer.send({ type: 'ERROR', code: 'overloaded', detail: '', request: 0, retryAfterMs: 120, connection: 0 })
  peer.close('overloaded')
  transport.refuseNext(503, 0.1)
  const again = await transport.connection()
  const waitedMs = Date.now() - asked
  t.ok(waitedMs >= 219, `came after ${waitedMs} ms`)
  t.equal((await again.next('HELLO')).connection, 3, 'every attempt has a number of its own')
})

t.test('anything in answer to a keepalive will do', async (t) => {
  const transport = await server(t)
  const device = client(t, transport.url, memory(), { settings: { keepaliveMsMin: 20, pongTimeoutMs: 600_000 } })
  device.connect()
  const peer = await transport.welcomed({ keepaliveSeconds: 0 })
  await peer.empty()
  peer.send({ type: 'CAUGHT_UP', cursor: null })
  await peer.empty()
  peer.sendBytes(EMPTY_MESSAGE)
  await peer.empty()
  t.pass('one without an answer is not followed by another')
})

t.test('no answer in time: half open, reconnects', async (t) => {
  const transport = await server(t)
  const settings = { keepaliveMsMin: 20, pongTimeoutMs: 30 }
  const device = client(t, transport.url, memory(), { settings })
  device.connect()
  const errors = once(device, 'error')
  const peer = await transport.welcomed({ keepaliveSeconds: 0 })
  await peer.empty()
  const [error] = (await errors) as [DeviceError]
  t.equal(error.code, 'half_open')
  t.equal((await (await transport.connection()).next('HELLO')).connection, 2)
})

t.test('text is not the answer to a keepalive, not even an empty one', async (t) => {
  const transport = await server(t)
  const device = client(t, transport.url, memory(), { settings: { keepaliveMsMin: 20, pongTimeoutMs: 600_000 } })
  device.connect()
  const peer = await transport.welcomed({ keepaliveSeconds: 0 })
  await peer.empty()
  peer.sendText('')
  t.equal(await peer.closed(), 4000)
})

t.test('bytes that are no frame: closed as such, and back', async (t) => {
  const transport = await server(t)
  const device = client(t, transport.url, memory())
  device.connect()
  const peer = await transport.welcomed()
  peer.sendBytes(new Uint8Array([0x80]))
  t.equal(await peer.closed(), 4000)
  const second = await transport.connection()
  await second.next('HELLO')
  second.send({ type: 'PONG' })
  t.equal(await second.closed(), 4002, 'nothing but WELCOME after HELLO')
})
