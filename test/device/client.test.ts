import { once } from 'node:events'
import { Packr } from 'msgpackr'
import t from 'tap'
import { EMPTY_MESSAGE } from '../../protocol/frame.js'
import type { DeviceError } from '../../src/device/index.js'
import { notify, welcome } from './scripted-server.js'
import { client, event, Inbox, memory, server } from './support.js'

t.test('the first HELLO has the token and connection number 1, and WELCOME makes the client ready', async (t) => {
  const transport = await server(t)
  const device = client(t, transport.url, memory())
  device.connect()
  const peer = await transport.connection()
  const hello = await peer.next('HELLO')
  t.match(hello, { version: 1, connection: 1, credential: { kind: 'token', token: 'token' }, cursor: null, gap: null })
  const ready = event(device, 'ready')
  peer.send(welcome())
  t.match(await ready, { connection: 1, subscriptions: 1, resumed: false })
})

t.test('two pushes of one turn are acknowledged in one ACK and handed over in order', async (t) => {
  const transport = await server(t)
  const device = client(t, transport.url, memory())
  const inbox = new Inbox(device)
  device.connect()
  const peer = await transport.welcomed()
  const data = new Packr({ useRecords: false }).pack({ a: [1, 'x'], b: { c: true } })
  peer.send(notify(11n, { data, collapseKey: 'k', priority: 'high' }), notify(12n))
  t.same((await peer.next('ACK')).ids, [11n, 12n])
  const [first, second] = await inbox.next(2)
  t.match(first, { id: '11', data: { a: [1, 'x'], b: { c: true } }, priority: 'high', possibleDuplicate: false })
  t.equal(second?.id, '12')
})

t.test('a duplicate is acknowledged and not handed over', async (t) => {
  const transport = await server(t)
  const store = memory()
  const device = client(t, transport.url, store)
  const inbox = new Inbox(device)
  device.connect()
  const peer = await transport.welcomed()
  peer.send(notify(11n), notify(12n))
  t.same((await peer.next('ACK')).ids, [11n, 12n])
  peer.send(notify(11n))
  t.same((await peer.next('ACK')).ids, [11n])
  peer.send(notify(13n))
  t.same(
    (await inbox.next(3)).map((n) => n.id),
    ['11', '12', '13'],
  )
  t.equal(store.state.inbox.size, 0)
})

t.test('a client that reconnects sends its ticket and the next connection number', async (t) => {
  const transport = await server(t)
  const device = client(t, transport.url, memory())
  device.connect()
  const first = await transport.welcomed()
  first.terminate()
  const second = await transport.connection()
  const hello = await second.next('HELLO')
  t.equal(hello.connection, 2)
  t.match(hello.credential, { kind: 'ticket', ticket: new Uint8Array([1, 2, 3]) })
})

t.test('a push that comes again on the next connection is acknowledged and not handed over', async (t) => {
  const transport = await server(t)
  const device = client(t, transport.url, memory())
  const inbox = new Inbox(device)
  device.connect()
  const first = await transport.welcomed()
  first.send(notify(1n))
  await first.next('ACK')
  first.terminate()
  const second = await transport.welcomed()
  second.send(notify(1n), notify(2n))
  t.same((await second.next('ACK')).ids, [1n, 2n])
  t.same(
    (await inbox.next(2)).map((n) => n.id),
    ['1', '2'],
  )
})

t.test('after stale_connection with a number the next connection number is above it', async (t) => {
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

t.test('after each stale_connection without a number the connection number rises by a larger step', async (t) => {
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
  t.equal(refusals, 3, 'the steps are 16, 256 and 4096')
})

t.test('after bad_ticket the client reconnects with its token', async (t) => {
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

t.test('revoked stops the client with a fatal error', async (t) => {
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

t.test('GOAWAY: the client leaves with BYE after the hinted time and connects to the named address', async (t) => {
  const oldTransport = await server(t)
  const newTransport = await server(t)
  const device = client(t, oldTransport.url, memory(), { random: () => 0.5 })
  device.connect()
  const peer = await oldTransport.welcomed()
  const sentAtMs = Date.now()
  peer.send({ type: 'GOAWAY', reason: 'rebalance', afterMs: 80, jitterMs: 40, url: newTransport.url })
  await peer.next('BYE')
  const next = await newTransport.connection()
  const waitedMs = Date.now() - sentAtMs
  t.ok(waitedMs >= 99, `connected after ${waitedMs} ms`)
  t.equal((await next.next('HELLO')).connection, 2)
})

t.test('GOAWAY with an address that is no WebSocket URL: the client reconnects to its own address', async (t) => {
  const transport = await server(t)
  const device = client(t, transport.url, memory())
  device.connect()
  const peer = await transport.welcomed()
  peer.send({ type: 'GOAWAY', reason: 'shutdown', afterMs: 0, jitterMs: 5, url: 'http://127.0.0.1:1' })
  const next = await transport.connection()
  t.equal((await next.next('HELLO')).connection, 2)
})

t.test('the next attempt waits at least for retryAfterMs of ERROR plus Retry-After of HTTP', async (t) => {
  const transport = await server(t)
  const device = client(t, transport.url, memory())
  device.connect()
  const peer = await transport.connection()
  await peer.next('HELLO')
  const refusedAtMs = Date.now()
  peer.send({ type: 'ERROR', code: 'overloaded', detail: '', request: 0, retryAfterMs: 120, connection: 0 })
  peer.close('overloaded')
  transport.refuseNext(503, 0.1)
  const next = await transport.connection()
  const waitedMs = Date.now() - refusedAtMs
  t.ok(waitedMs >= 219, `connected after ${waitedMs} ms`)
  t.equal((await next.next('HELLO')).connection, 3, 'every attempt has a number of its own')
})

t.test('a frame or an empty message answers a keepalive, and only an answer is followed by the next one', async (t) => {
  const transport = await server(t)
  const device = client(t, transport.url, memory(), { settings: { keepaliveMsMin: 20, pongTimeoutMs: 600_000 } })
  device.connect()
  const peer = await transport.welcomed({ keepaliveSeconds: 0 })
  await peer.nextEmpty()
  peer.send({ type: 'CAUGHT_UP', cursor: null })
  await peer.nextEmpty()
  peer.sendBytes(EMPTY_MESSAGE)
  await peer.nextEmpty()
  t.pass('three keepalives came')
})

t.test('a keepalive without an answer in time gives the error half_open, and the client reconnects', async (t) => {
  const transport = await server(t)
  const settings = { keepaliveMsMin: 20, pongTimeoutMs: 30 }
  const device = client(t, transport.url, memory(), { settings })
  device.connect()
  const errors = once(device, 'error')
  const peer = await transport.welcomed({ keepaliveSeconds: 0 })
  await peer.nextEmpty()
  const [error] = (await errors) as [DeviceError]
  t.equal(error.code, 'half_open')
  t.equal((await (await transport.connection()).next('HELLO')).connection, 2)
})

t.test('an empty text message in answer to a keepalive is closed as a protocol error', async (t) => {
  const transport = await server(t)
  const device = client(t, transport.url, memory(), { settings: { keepaliveMsMin: 20, pongTimeoutMs: 600_000 } })
  device.connect()
  const peer = await transport.welcomed({ keepaliveSeconds: 0 })
  await peer.nextEmpty()
  peer.sendText('')
  t.equal(await peer.closed(), 4000)
})

t.test('bytes that are no frame are closed as a protocol error, and the client reconnects', async (t) => {
  const transport = await server(t)
  const device = client(t, transport.url, memory())
  device.connect()
  const peer = await transport.welcomed()
  peer.sendBytes(new Uint8Array([0x80]))
  t.equal(await peer.closed(), 4000)
  const second = await transport.connection()
  t.equal((await second.next('HELLO')).connection, 2)
})

t.test('a frame other than WELCOME in answer to HELLO is closed as unexpected', async (t) => {
  const transport = await server(t)
  const device = client(t, transport.url, memory())
  device.connect()
  const peer = await transport.connection()
  await peer.next('HELLO')
  peer.send({ type: 'PONG' })
  t.equal(await peer.closed(), 4002)
})
