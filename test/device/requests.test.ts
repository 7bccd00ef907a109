import t from 'tap'
import { deviceSettings } from '../../src/device/settings.js'
import { MachineModel } from './machine.js'
import { notify, type Peer, welcome } from './scripted-server.js'
import { client, Inbox, memory, REGISTRATION, server } from './support.js'

t.test('register and subscribe, across a lost connection', async (t) => {
  const transport = await server(t)
  const device = client(t, transport.url, memory(), { settings: { requestAttemptsMax: 10 } })
  device.connect()
  const registering = device.register('app_a')
  const first = await transport.welcomed({ subscriptions: 2 })
  t.match(await first.next('REGISTER'), { application: 'app_a', userToken: '' })
  first.terminate()
  const second = await transport.welcomed({ subscriptions: 2 })
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

t.test('another version: each registration first, its topics with the number that it has now', async (t) => {
  const transport = await server(t)
  const store = memory()
  const { state } = store
  state.apply({ kind: 'registered', registration: { ...REGISTRATION, number: 2, application: 'app_b' } })
  for (const application of ['app_a', 'app_b']) {
    state.apply({ kind: 'topic', topic: { application, user: '', topic: `of-${application}` }, subscribed: true })
  }
  const device = client(t, transport.url, store)
  device.connect()
  const peer = await transport.welcomed({ subscriptions: 7 })
  const a = await peer.next('REGISTER')
  const b = await peer.next('REGISTER')
  t.same([a.application, b.application], ['app_a', 'app_b'])
  t.same(peer.frames, [], 'no SUBSCRIBE before its REGISTERED')
  const joining = device.subscribe('more', { application: 'app_b' })
  const answer = { type: 'REGISTERED', registrationId: 'rid', project: 'acme' } as const
  peer.send({ ...answer, request: b.request, registration: 1, subscriptions: 8 })
  const subscribes = [await peer.next('SUBSCRIBE'), await peer.next('SUBSCRIBE')]
  t.same(
    subscribes.map(({ registration, topic }) => [registration, topic]),
    [
      [1, 'more'],
      [1, 'of-app_b'],
    ],
    'never the old number, which is another one by now',
  )
  for (const { request } of subscribes) peer.send({ type: 'DONE', request, subscriptions: 10 })
  await joining
  peer.send({ ...answer, request: a.request, registration: 3, subscriptions: 9 })
  const last = await peer.next('SUBSCRIBE')
  t.same([last.registration, last.topic, state.subscriptions], [3, 'of-app_a', 1], 'not heard before all is answered')
  const ending = device.subscribe('end', { application: 'app_a' })
  const end = await peer.next('SUBSCRIBE')
  for (const { request } of [end, last]) peer.send({ type: 'DONE', request, subscriptions: 9 })
  await ending
  await device.register('app_a')
  t.equal(state.subscriptions, 10, 'answers may cross: the greatest of the connection')
})

t.test('a registration that the service lost is asked for anew when a topic needs it', async (t) => {
  const transport = await server(t)
  const device = client(t, transport.url, memory())
  device.connect()
  const peer = await transport.welcomed()
  const joining = device.subscribe('news')
  const error = { type: 'ERROR', code: 'unknown_registration', detail: '', retryAfterMs: 0, connection: 0 } as const
  peer.send({ ...error, request: (await peer.next('SUBSCRIBE')).request })
  await answerRegister(peer, 4, 'rid-4', 2)
  const again = await peer.next('SUBSCRIBE')
  t.equal(again.registration, 4)
  peer.send({ ...error, request: again.request })
  await t.rejects(joining, { code: 'request_refused', serverCode: 'unknown_registration' })
})

t.test(
  'what comes for a registration before its answer is shown after it, or dropped when it is refused',
  async (t) => {
    const transport = await server(t)
    const device = client(t, transport.url, memory(), { settings: { heldMax: 2 } })
    const inbox = new Inbox(device)
    device.connect()
    const peer = await transport.welcomed()
    const registering = device.register('app_b')
    const { request } = await peer.next('REGISTER')
    const target = { kind: 'app', name: 'app_b' } as const
    peer.send(
      notify(1n, { registration: 2 }),
      notify(2n, { registration: 2 }),
      { ...notify(3n), type: 'NOTIFY_GROUP', target, project: 'acme', sequence: 1 },
      notify(4n),
    )
    t.same((await peer.next('ACK')).ids, [1n, 2n, 4n])
    await inbox.next(1)
    peer.send({ type: 'REGISTERED', request, registration: 2, registrationId: 'r', subscriptions: 2, project: 'acme' })
    await registering
    t.same(
      (await inbox.next(3)).map(({ id }) => id),
      ['4', '2', '3'],
      'bounded: the oldest of too many goes',
    )
    const refused = device.register('app_c')
    const second = await peer.next('REGISTER')
    peer.send(notify(5n, { registration: 3 }))
    await peer.next('ACK')
    const error = { type: 'ERROR', code: 'unknown_application', detail: '', retryAfterMs: 0, connection: 0 } as const
    peer.send({ ...error, request: second.request }, notify(6n))
    await t.rejects(refused)
    t.same((await inbox.next(4)).at(-1)?.id, '6')
    await device.close()
    t.equal(device.registrations.length, 2)
  },
)

t.test('many requests are paced, and tried again after a random time', async (t) => {
  const settings = deviceSettings({ requestsInFlightMax: 100 })
  const model = new MachineModel(() => 0.5, settings)
  model.settle()
  model.openSocket()
  model.receive(welcome({ serverTimeMs: model.now }))
  for (let n = 0; n < 50; n++) {
    const wish = { kind: 'unsubscribe', application: 'app_a', user: '', topic: `t${n}` } as const
    model.machine.request(model.now, wish, n)
  }
  const asked = () => model.sent.flatMap((frame) => (frame.type === 'UNSUBSCRIBE' ? [frame] : []))
  t.equal(asked().length, 1)
  t.equal(model.machine.nextInMs(model.now), 25)
  for (let n = 0; n < 40; n++) model.advance(25)
  t.equal(asked().length, 41, 'a second later')
  for (let n = 0; n < 10; n++) model.advance(25)
  for (const { request } of asked().slice(1)) model.receive({ type: 'DONE', request, subscriptions: 2 })
  const waits: number[] = []
  for (let n = 0; n < 3; n++) {
    const request = asked().at(n === 0 ? 0 : -1)?.request ?? 0
    const error = { type: 'ERROR', code: 'unavailable', detail: '', retryAfterMs: 300, connection: 0 } as const
    model.receive({ ...error, request })
    const inMs = model.machine.nextInMs(model.now)
    waits.push(inMs)
    model.advance(inMs)
  }
  t.same(waits, [800, 1_300, 2_300], 'the hint, and half of 1, 2, 4 seconds')
})

/** A machine that is connected as app_a's device, and what it asked of the server so far. */
function connected() {
  const model = new MachineModel(() => 0.5, deviceSettings({}))
  const connect = (subscriptions: number) => {
    model.advance(60_000)
    model.settle()
    model.openSocket()
    model.receive(welcome({ serverTimeMs: model.now, subscriptions }))
  }
  connect(1)
  const ask = (kind: 'subscribe' | 'unsubscribe', topic: string, caller: number) =>
    model.machine.request(model.now, { kind, application: 'app_a', user: '', topic }, caller)
  const askFor = (kind: 'register' | 'unregister', caller: number) =>
    model.machine.request(model.now, { kind, application: 'app_a', user: '', userToken: '' }, caller)
  const requests = () => model.sent.flatMap((frame) => ('request' in frame ? [frame] : []))
  const kinds = () => requests().map(({ type }) => type)
  const last = () => requests().at(-1)?.request ?? 0
  return { model, connect, ask, askFor, kinds, last }
}

t.test('what is asked for last is so at the end: opposites go one after the other', async (t) => {
  const { model, ask, kinds, last } = connected()
  model.memory.apply({ kind: 'topic', topic: { application: 'app_a', user: '', topic: 'news' }, subscribed: true })
  ask('unsubscribe', 'news', 1)
  const first = last()
  ask('subscribe', 'news', 2)
  model.advance(25)
  t.same(kinds(), ['UNSUBSCRIBE'], 'not fulfilled by what still stands here, nor sent beside it')
  model.advance(10_000)
  t.same(kinds(), ['UNSUBSCRIBE', 'UNSUBSCRIBE'], 'the first again')
  model.receive({ type: 'DONE', request: last(), subscriptions: 2 })
  model.advance(25)
  t.same(kinds().slice(2), ['SUBSCRIBE'])
  model.receive({ type: 'DONE', request: first, subscriptions: 2 })
  model.receive({ type: 'DONE', request: last(), subscriptions: 3 })
  t.same(model.memory.topicList(), [{ application: 'app_a', user: '', topic: 'news' }])
})

for (const answer of ['none', 'unavailable'] as const) {
  t.test(
    `nobody knows what came of a wish (answer: ${answer}): its opposite is asked for, no version agreed`,
    async (t) => {
      const { model, connect, ask, kinds, last } = connected()
      model.memory.apply({ kind: 'topic', topic: { application: 'app_a', user: '', topic: 'news' }, subscribed: true })
      ask('unsubscribe', 'news', 1)
      const error = { type: 'ERROR', code: 'unavailable', detail: '', retryAfterMs: 0, connection: 0 } as const
      for (let n = 0; n < deviceSettings({}).requestAttemptsMax; n++) {
        if (answer === 'unavailable') model.receive({ ...error, request: last() })
        model.advance(10_000)
      }
      const before = kinds().length
      ask('subscribe', 'news', 2)
      model.advance(25)
      t.same(kinds().slice(before), ['SUBSCRIBE'], 'it still stands here, and may be gone there')
      model.receive({ type: 'DONE', request: last(), subscriptions: 3 })
      t.equal(model.memory.subscriptions, 1)
      model.loseSocket(1006)
      connect(3)
      model.advance(25)
      t.equal(kinds().at(-1), 'REGISTER', 'everything again')
    },
  )
}

t.test('wishes that were taken back before they were sent go in their order, too', async (t) => {
  const { model, ask, kinds, last } = connected()
  ask('subscribe', 'a', 1)
  ask('unsubscribe', 'a', 2)
  ask('subscribe', 'a', 3)
  ask('subscribe', 'a', 4)
  for (let n = 0; n < 4; n++) {
    model.receive({ type: 'DONE', request: last(), subscriptions: 2 + n })
    model.advance(25)
  }
  t.same(kinds(), ['SUBSCRIBE', 'UNSUBSCRIBE', 'SUBSCRIBE'], 'the last two share one')
  t.equal(model.memory.topicList().length, 1)
})

t.test('what is about to end is not asked for again by the device itself', async (t) => {
  const { model, connect, ask, askFor, kinds } = connected()
  for (const topic of ['news', 'goals']) {
    model.memory.apply({ kind: 'topic', topic: { application: 'app_a', user: '', topic }, subscribed: true })
  }
  ask('unsubscribe', 'news', 1)
  model.loseSocket(1006)
  connect(9)
  model.receive({
    ...{ type: 'REGISTERED', request: requestOf(model, 'REGISTER'), registration: 1, registrationId: 'r' },
    ...{ subscriptions: 9, project: 'acme' },
  })
  for (let n = 0; n < 4; n++) model.advance(25)
  t.same(kinds().sort(), ['REGISTER', 'SUBSCRIBE', 'UNSUBSCRIBE', 'UNSUBSCRIBE'])
  askFor('unregister', 2)
  model.loseSocket(1006)
  const before = kinds().length
  connect(12)
  for (let n = 0; n < 8; n++) model.advance(25)
  t.notOk(kinds().slice(before).includes('REGISTER'), 'the app has left it')
})

t.test('a wish that cannot be fulfilled any more does not hold up what was asked for after it', async (t) => {
  const { model, ask, askFor, kinds, last } = connected()
  ask('subscribe', 'news', 1)
  const subscribe = last()
  askFor('unregister', 2)
  askFor('register', 3)
  const error = { type: 'ERROR', code: 'unknown_registration', detail: '', retryAfterMs: 0, connection: 0 } as const
  model.receive({ ...error, request: subscribe })
  model.advance(25)
  model.receive({ ...error, request: last() })
  model.advance(25)
  model.receive({ type: 'DONE', request: last(), subscriptions: 2 })
  model.advance(25)
  t.same(kinds(), ['SUBSCRIBE', 'SUBSCRIBE', 'UNREGISTER', 'REGISTER'])
})

t.test('refusals of requests: those that can be retried are, the others reject', async (t) => {
  const transport = await server(t)
  const device = client(t, transport.url, memory())
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
  const ended = t.rejects(device.register('app_d'), { code: 'request_timeout' })
  for (let attempt = 0; attempt < 3; attempt++) await peer.next('REGISTER')
  await ended
  t.same(peer.frames, [], 'three times, and no more')
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
  const waiting = device.register('app_b')
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

function requestOf(model: MachineModel, type: string): number {
  const frame = model.sent.findLast((sent) => sent.type === type)
  return frame && 'request' in frame ? frame.request : 0
}
