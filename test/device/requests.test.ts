import t from 'tap'
import { notify, type Peer } from './scripted-server.js'
import { client, Inbox, memory, server } from './support.js'

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
  peer.send({ type: 'REGISTERED', request, registration: number, registrationId, subscriptions, project: 'acme' })
}
