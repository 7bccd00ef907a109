import { once } from 'node:events'
import { Packr } from 'msgpackr'
import t from 'tap'
import type { DeviceError } from '../../src/device/index.js'
import { notify, type Peer, welcome } from './scripted-server.js'
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
    t.equal(connection, refusals === 0 ? 1 : last + 2 ** refusals)
    last = connection
    if (connection > 1_000) break
    refusals++
    peer.close('stale_connection')
  }
  t.equal(refusals, 9, 'steps of 2, 4, 8, ...')
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

t.test('no PONG in time: half open, reconnects', async (t) => {
  const transport = await server(t)
  const settings = { keepaliveMsMin: 20, pongTimeoutMs: 30 }
  const device = client(t, transport.url, memory(), { settings })
  device.connect()
  const errors = once(device, 'error')
  const peer = await transport.welcomed({ keepaliveSeconds: 0 })
  await peer.next('PING')
  peer.send({ type: 'CAUGHT_UP', cursor: null })
  await peer.next('PING')
  const [error] = (await errors) as [DeviceError]
  t.equal(error.code, 'half_open')
  t.equal((await (await transport.connection()).next('HELLO')).connection, 2)
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

t.test('register and subscribe, across a lost connection', async (t) => {
  const transport = await server(t)
  const device = client(t, transport.url, memory(), { settings: { requestAttemptsMax: 10 } })
  device.connect()
  const registering = device.register('app_a')
  const first = await transport.welcomed()
  t.match(await first.next('REGISTER'), { application: 'app_a', userToken: '' })
  first.terminate()
  const second = await transport.welcomed()
  await answerRegister(second, 1, 'rid-1', 2)
  t.match(await registering, { number: 1, application: 'app_a', registrationId: 'rid-1' })
  const subscribing = device.subscribe('news')
  const { request, registration, topic } = await second.next('SUBSCRIBE')
  t.same([registration, topic], [1, 'news'])
  second.send({ type: 'DONE', request, subscriptions: 3 })
  await subscribing

  second.terminate()
  const third = await transport.welcomed({ subscriptions: 3 })
  t.match(await device.register('app_a'), { registrationId: 'rid-1' }, 'known: the server need not be asked')
  await device.subscribe('news')
  third.terminate()
  const fourth = await transport.welcomed({ subscriptions: 9 })
  await answerRegister(fourth, 1, 'rid-2', 9)
  t.match(await fourth.next('SUBSCRIBE'), { topic: 'news' }, 'another version: everything is asked for again')
  t.equal(fourth.frames.filter((f) => f.type === 'REGISTER').length, 0)
})

t.test('refusals of requests: those that can be retried are, the others reject', async (t) => {
  const transport = await server(t)
  const device = client(t, transport.url, memory(), { settings: { requestTimeoutMs: 100 } })
  device.connect()
  const peer = await transport.welcomed()
  const failing = device.register('app_b')
  const { request } = await peer.next('REGISTER')
  const error = { type: 'ERROR', detail: '', retryAfterMs: 0, connection: 0 } as const
  peer.send({ ...error, code: 'unavailable', request })
  const again = await peer.next('REGISTER')
  t.not(again.request, request, 'again, with a new number')
  peer.send({ ...error, code: 'unknown_application', request })
  peer.send({ ...error, code: 'of_a_later_version', request: again.request, retryAfterMs: 1 })
  const last = await peer.next('REGISTER')
  peer.send({ ...error, code: 'unknown_application', request: last.request })
  await t.rejects(failing, { code: 'request_refused', serverCode: 'unknown_application' })
  await t.rejects(device.subscribe('x', { application: 'app_b' }), { code: 'no_registration' })
  await t.rejects(device.register('app_c', { userToken: 'x' }), {
    code: 'request_refused',
    serverCode: 'bad_user_token',
  })
})

t.test('no more requests under way than every server grants; what is gone is as good as ended', async (t) => {
  const transport = await server(t)
  const device = client(t, transport.url, memory())
  device.connect()
  const peer = await transport.welcomed()
  const topics = Array.from({ length: 20 }, (_, n) => `topic-${n}`)
  const all = Promise.all(topics.map((topic) => device.unsubscribe(topic)))
  for (let n = 0; n < 8; n++) {
    const { request } = await peer.next('UNSUBSCRIBE')
    t.equal(request, n + 1)
  }
  const error = { type: 'ERROR', code: 'unknown_registration', detail: '', retryAfterMs: 0, connection: 0 } as const
  for (let request = 1; request <= 20; request++) {
    t.ok(peer.frames.filter((f) => f.type === 'UNSUBSCRIBE').length <= request, 'one more for each answer')
    if (request > 8) await peer.next('UNSUBSCRIBE')
    peer.send({ ...error, request })
  }
  await all
})

t.test('silence is asked again, and fails in the end', async (t) => {
  const transport = await server(t)
  const settings = { requestTimeoutMs: 10, requestAttemptsMax: 3 }
  const device = client(t, transport.url, memory(), { settings })
  device.connect()
  const peer = await transport.welcomed()
  await t.rejects(device.register('app_d'), { code: 'request_timeout' })
  t.equal(peer.frames.filter((f) => f.type === 'REGISTER').length, 3)
})

t.test('after unregister its late messages are acknowledged and not shown', async (t) => {
  const transport = await server(t)
  const device = client(t, transport.url, memory())
  const inbox = new Inbox(device)
  device.connect()
  const peer = await transport.welcomed()
  const registering = device.register('app_b')
  await answerRegister(peer, 2, 'rid-2', 2)
  await registering
  await t.rejects(device.unregister(), { code: 'no_registration' }, 'which of two?')
  const ending = device.unregister({ application: 'app_a' })
  const { request, registration } = await peer.next('UNREGISTER')
  t.equal(registration, 1)
  peer.send({ type: 'DONE', request, subscriptions: 3 })
  await ending
  t.match(device.registrations, [{ application: 'app_b' }])
  peer.send(notify(5n, { registration: 1 }), notify(6n, { registration: 2 }))
  t.same((await peer.next('ACK')).ids, [5n, 6n])
  t.same(
    (await inbox.next(1)).map((n) => n.id),
    ['6'],
  )
})

t.test('gap and cursor: told once, sent in the next HELLO', async (t) => {
  const transport = await server(t)
  const device = client(t, transport.url, memory())
  const gaps: unknown[] = []
  device.on('gap', (gap) => gaps.push(gap))
  const inbox = new Inbox(device)
  device.connect()
  const peer = await transport.welcomed()
  const gap = { type: 'GAP', reason: 'queue_overflow', count: 4, mark: { queue: 9n, count: 4 } } as const
  const cursor = { incarnation: 3n, sequence: 40, subscriptions: 1 }
  const group = { ...notify(20n), type: 'NOTIFY_GROUP', target: { kind: 'app', name: 'app_a' }, project: 'p' } as const
  const caughtUp = event(device, 'caughtUp')
  peer.send(gap, gap, { type: 'CAUGHT_UP', cursor }, { ...group, sequence: 41 })
  t.same(await caughtUp, cursor)
  t.match((await inbox.next(1))[0], { id: '20', application: 'app_a', group: { kind: 'app', project: 'p' } })
  t.equal(peer.frames.filter((f) => f.type === 'ACK').length, 0, 'group messages are not acknowledged')
  peer.terminate()
  const again = await transport.connection()
  const hello = await again.next('HELLO')
  t.same(hello.cursor, { ...cursor, sequence: 41 })
  t.same(hello.gap, { queue: 9n, count: 4 })
  again.send(welcome(), { ...gap, count: 2, mark: { queue: 9n, count: 6 } })
  again.send({ ...group, sequence: 41 }, notify(21n))
  t.same(
    (await inbox.next(2)).map((n) => n.id),
    ['20', '21'],
    'a repeated group message is known',
  )
  t.match(gaps, [{ count: 4, reason: 'queue_overflow' }, { count: 2 }])
})

t.test('LOG_RESET: the cursor is gone until CAUGHT_UP brings one', async (t) => {
  const transport = await server(t)
  const store = memory()
  const cursor = { incarnation: 3n, sequence: 40, subscriptions: 1 }
  store.state.apply({ kind: 'cursor', cursor })
  const device = client(t, transport.url, store)
  const inbox = new Inbox(device)
  device.connect()
  const peer = await transport.welcomed()
  peer.send({ type: 'GAP', reason: 'log_reset', count: 0, mark: null })
  const group = { ...notify(20n), type: 'NOTIFY_GROUP', target: { kind: 'app', name: 'app_a' }, project: 'p' } as const
  peer.send({ ...group, sequence: 900 })
  await inbox.next(1)
  t.equal(store.state.cursor, null, '900 is a place in another log')
  const fresh = { incarnation: 4n, sequence: 901, subscriptions: 1 }
  const caughtUp = event(device, 'caughtUp')
  peer.send({ type: 'CAUGHT_UP', cursor: fresh })
  await caughtUp
  t.same(store.state.cursor, fresh)
})

t.test('what has expired is acknowledged and not shown, by the clock of the server', async (t) => {
  const transport = await server(t)
  const device = client(t, transport.url, memory())
  const inbox = new Inbox(device)
  const expired = event(device, 'expired')
  device.connect()
  const hourAhead = Date.now() + 3_600_000
  const peer = await transport.welcomed({ serverTimeMs: hourAhead })
  const seconds = Math.floor(Date.now() / 1_000)
  peer.send(notify(1n, { expiresAtSeconds: seconds + 60 }), notify(2n, { expiresAtSeconds: seconds + 7_200 }))
  t.same((await peer.next('ACK')).ids, [1n, 2n])
  t.match(await expired, { id: '1' })
  t.same(
    (await inbox.next(1)).map((n) => n.id),
    ['2'],
  )
})

t.test('handlers: one at a time, a failure is reported and counts as handed over', async (t) => {
  const transport = await server(t)
  const store = memory()
  const device = client(t, transport.url, store)
  const log: string[] = []
  const second = new Promise<void>((resolve) => {
    device.on('notification', async ({ id }) => {
      log.push(`begin ${id}`)
      await new Promise((next) => setImmediate(next))
      log.push(`end ${id}`)
      if (id === '1') throw new Error('no')
      resolve()
    })
  })
  const errors = once(device, 'error')
  device.connect()
  const peer = await transport.welcomed()
  peer.send(notify(1n), notify(2n))
  await second
  t.same(log, ['begin 1', 'end 1', 'begin 2', 'end 2'])
  t.match((await errors)[0], { code: 'handler_failed' })
  await device.close()
  t.equal(store.state.inbox.size, 0)
})

t.test('attributes that do not decode are left out, the notification is shown', async (t) => {
  const transport = await server(t)
  const device = client(t, transport.url, memory())
  const inbox = new Inbox(device)
  const errors = once(device, 'error')
  device.connect()
  const peer = await transport.welcomed()
  peer.send(notify(1n, { data: new Uint8Array([0xdf, 0xff, 0xff, 0xff, 0xff]) }))
  t.match((await inbox.next(1))[0], { title: 'title', data: {} })
  t.match((await errors)[0], { code: 'bad_data' })
})

t.test('a full inbox stops the reading, not the memory', async (t) => {
  const transport = await server(t)
  const store = memory()
  const device = client(t, transport.url, store, { settings: { inboxMax: 4 } })
  let release = () => {}
  const held = new Promise<void>((resolve) => {
    release = resolve
  })
  const all = new Promise<void>((resolve) => {
    device.on('notification', async ({ id }) => {
      await held
      if (id === '30') resolve()
    })
  })
  device.connect()
  const peer = await transport.welcomed()
  for (let id = 1n; id <= 30n; id++) peer.send(notify(id))
  const acked = await peer.next('ACK')
  t.ok(acked.ids.length >= 4)
  t.ok(store.state.inbox.size < 30, `${store.state.inbox.size} in the inbox`)
  release()
  await all
})

t.test('close says BYE and leaves nothing behind', async (t) => {
  const transport = await server(t)
  const device = client(t, transport.url, memory())
  device.connect()
  const peer = await transport.welcomed()
  const waiting = device.register('app_a')
  await peer.next('REGISTER')
  await Promise.all([device.close(), t.rejects(waiting, { code: 'stopped' })])
  await peer.next('BYE')
  t.equal(await peer.closed(), 1000)
  t.equal(device.state, 'stopped')
})

async function answerRegister(peer: Peer, number: number, registrationId: string, subscriptions: number) {
  const { request } = await peer.next('REGISTER')
  peer.send({ type: 'REGISTERED', request, registration: number, registrationId, subscriptions })
}
