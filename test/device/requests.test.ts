import t, { type Test } from 'tap'
import { deviceSettings } from '../../src/device/settings.js'
import { MachineModel } from './machine.js'
import { notify, type Peer, welcome } from './scripted-server.js'
import { client, Inbox, memory, REGISTRATION, server } from './support.js'

/** Tests of the requests of a device: REGISTER, UNREGISTER, SUBSCRIBE and UNSUBSCRIBE, with repeats and refusals. */
const ERROR = { type: 'ERROR', detail: '', retryAfterMs: 0, connection: 0 } as const

t.test('a request without an answer is sent again on the next connection', async (t) => {
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
})

/** A client that has registered app_a and subscribed to `news`, with version 3 of the subscriptions. */
async function subscribedClient(t: Test) {
  const transport = await server(t)
  const device = client(t, transport.url, memory(), { settings: { requestAttemptsMax: 10 } })
  device.connect()
  const registering = device.register('app_a')
  const peer = await transport.welcomed({ subscriptions: 2 })
  await answerRegister(peer, 1, 'rid-1', 2)
  await registering
  const subscribing = device.subscribe('news')
  const { request } = await peer.next('SUBSCRIBE')
  peer.send({ type: 'DONE', request, subscriptions: 3 })
  await subscribing
  peer.terminate()
  return { transport, device }
}

t.test('with the same version of the subscriptions register and subscribe need no request', async (t) => {
  const { transport, device } = await subscribedClient(t)
  const peer = await transport.welcomed({ subscriptions: 3 })
  t.match(await device.register('app_a'), { registrationId: 'rid-1' })
  await device.subscribe('news')
  t.same(peer.frames, [])
})

t.test('with another version of the subscriptions the client registers and subscribes again', async (t) => {
  const { transport } = await subscribedClient(t)
  const peer = await transport.welcomed({ subscriptions: 9 })
  await answerRegister(peer, 1, 'rid-2', 9)
  t.match(await peer.next('SUBSCRIBE'), { topic: 'news' })
  t.equal(peer.frames.filter((f) => f.type === 'REGISTER').length, 0)
})

t.test('with another version each SUBSCRIBE follows its REGISTERED and has the new number', async (t) => {
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
    'the old number 2 may belong to another registration now',
  )
  for (const { request } of subscribes) peer.send({ type: 'DONE', request, subscriptions: 10 })
  await joining
  peer.send({ ...answer, request: a.request, registration: 3, subscriptions: 9 })
  const last = await peer.next('SUBSCRIBE')
  t.same(
    [last.registration, last.topic, state.subscriptions],
    [3, 'of-app_a', 1],
    'the new version is stored after the last answer',
  )
  const ending = device.subscribe('end', { application: 'app_a' })
  const end = await peer.next('SUBSCRIBE')
  for (const { request } of [end, last]) peer.send({ type: 'DONE', request, subscriptions: 9 })
  await ending
  await device.register('app_a')
  t.equal(state.subscriptions, 10, 'answers may cross, so the highest version counts')
})

t.test('after unknown_registration the client registers again and repeats SUBSCRIBE once', async (t) => {
  const transport = await server(t)
  const device = client(t, transport.url, memory())
  device.connect()
  const peer = await transport.welcomed()
  const joining = device.subscribe('news')
  const error = { ...ERROR, code: 'unknown_registration' } as const
  peer.send({ ...error, request: (await peer.next('SUBSCRIBE')).request })
  await answerRegister(peer, 4, 'rid-4', 2)
  const again = await peer.next('SUBSCRIBE')
  t.equal(again.registration, 4)
  peer.send({ ...error, request: again.request })
  await t.rejects(joining, { code: 'request_refused', serverCode: 'unknown_registration' })
})

t.test(
  'pushes for a registration that come before REGISTERED are shown after it, at most heldMax of them',
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
      { ...notify(3n), type: 'NOTIFY_GROUP', registrations: [], target, project: 'acme', sequence: 1 },
      notify(4n),
    )
    t.same((await peer.next('ACK')).ids, [1n, 2n, 4n])
    await inbox.next(1)
    peer.send({ type: 'REGISTERED', request, registration: 2, registrationId: 'r', subscriptions: 2, project: 'acme' })
    await registering
    t.same(
      (await inbox.next(3)).map(({ id }) => id),
      ['4', '2', '3'],
      'the oldest of three held pushes is dropped',
    )
  },
)

t.test('pushes for a registration that is refused are acknowledged and not shown', async (t) => {
  const transport = await server(t)
  const device = client(t, transport.url, memory())
  const inbox = new Inbox(device)
  device.connect()
  const peer = await transport.welcomed()
  const refused = device.register('app_c')
  const { request } = await peer.next('REGISTER')
  peer.send(notify(5n, { registration: 3 }))
  t.same((await peer.next('ACK')).ids, [5n])
  peer.send({ ...ERROR, code: 'unknown_application', request }, notify(6n))
  await t.rejects(refused, { code: 'request_refused' })
  t.same(
    (await inbox.next(1)).map(({ id }) => id),
    ['6'],
  )
  await device.close()
  t.equal(device.registrations.length, 1)
})

/** A connected model with 50 UNSUBSCRIBE requests, and the requests that were sent so far. */
function modelWith50Requests() {
  const model = new MachineModel(() => 0.5, deviceSettings({ requestsInFlightMax: 100 }))
  model.settle()
  model.openSocket()
  model.receive(welcome({ serverTimeMs: model.now }))
  for (let n = 0; n < 50; n++) {
    const command = { kind: 'unsubscribe', application: 'app_a', user: '', topic: `t${n}` } as const
    model.machine.request(model.now, command, n)
  }
  const sent = () => model.sent.flatMap((frame) => (frame.type === 'UNSUBSCRIBE' ? [frame] : []))
  return { model, sent }
}

t.test('50 requests are sent one every 25 ms', async (t) => {
  const { model, sent } = modelWith50Requests()
  t.equal(sent().length, 1)
  t.equal(model.machine.nextInMs(model.now), 25)
  for (let n = 0; n < 40; n++) model.advance(25)
  t.equal(sent().length, 41, 'after one second')
})

t.test('an unavailable request is repeated after the hint plus a random time that doubles', async (t) => {
  const { model, sent } = modelWith50Requests()
  for (let n = 0; n < 50; n++) model.advance(25)
  for (const { request } of sent().slice(1)) model.receive({ type: 'DONE', request, subscriptions: 2 })
  const waitsMs: number[] = []
  for (let n = 0; n < 3; n++) {
    const request = sent().at(n === 0 ? 0 : -1)?.request ?? 0
    model.receive({ ...ERROR, code: 'unavailable', retryAfterMs: 300, request })
    const waitMs = model.machine.nextInMs(model.now)
    waitsMs.push(waitMs)
    model.advance(waitMs)
  }
  t.same(waitsMs, [800, 1_300, 2_300], '300 ms, and half of 1, 2 and 4 seconds')
})

/** A connected model of a device that has registered app_a, with functions to make requests and to read them. */
function connectedModel() {
  const model = new MachineModel(() => 0.5, deviceSettings({}))
  const connect = (subscriptions: number) => {
    model.advance(60_000)
    model.settle()
    model.openSocket()
    model.receive(welcome({ serverTimeMs: model.now, subscriptions }))
  }
  connect(1)
  const requestTopic = (kind: 'subscribe' | 'unsubscribe', topic: string, caller: number) =>
    model.machine.request(model.now, { kind, application: 'app_a', user: '', topic }, caller)
  const requestRegistration = (kind: 'register' | 'unregister', caller: number) =>
    model.machine.request(model.now, { kind, application: 'app_a', user: '', userToken: '' }, caller)
  const requests = () => model.sent.flatMap((frame) => ('request' in frame ? [frame] : []))
  const sentTypes = () => requests().map(({ type }) => type)
  const lastRequest = () => requests().at(-1)?.request ?? 0
  return { model, connect, requestTopic, requestRegistration, sentTypes, lastRequest }
}

t.test('a SUBSCRIBE waits for the answer to an UNSUBSCRIBE of the same topic, and then wins', async (t) => {
  const { model, requestTopic, sentTypes, lastRequest } = connectedModel()
  model.memory.apply({ kind: 'topic', topic: { application: 'app_a', user: '', topic: 'news' }, subscribed: true })
  requestTopic('unsubscribe', 'news', 1)
  const first = lastRequest()
  requestTopic('subscribe', 'news', 2)
  model.advance(25)
  t.same(sentTypes(), ['UNSUBSCRIBE'], 'although the stored state still has the topic')
  model.advance(10_000)
  t.same(sentTypes(), ['UNSUBSCRIBE', 'UNSUBSCRIBE'], 'the unanswered request is repeated')
  model.receive({ type: 'DONE', request: lastRequest(), subscriptions: 2 })
  model.advance(25)
  t.same(sentTypes().slice(2), ['SUBSCRIBE'])
  model.receive({ type: 'DONE', request: first, subscriptions: 2 })
  model.receive({ type: 'DONE', request: lastRequest(), subscriptions: 3 })
  t.same(model.memory.topicList(), [{ application: 'app_a', user: '', topic: 'news' }])
})

for (const answer of ['none', 'unavailable'] as const) {
  t.test(
    `after an UNSUBSCRIBE with unknown result (answer: ${answer}) a SUBSCRIBE is sent and the version is not stored`,
    async (t) => {
      const { model, connect, requestTopic, sentTypes, lastRequest } = connectedModel()
      model.memory.apply({ kind: 'topic', topic: { application: 'app_a', user: '', topic: 'news' }, subscribed: true })
      requestTopic('unsubscribe', 'news', 1)
      for (let n = 0; n < deviceSettings({}).requestAttemptsMax; n++) {
        if (answer === 'unavailable') model.receive({ ...ERROR, code: 'unavailable', request: lastRequest() })
        model.advance(10_000)
      }
      const before = sentTypes().length
      requestTopic('subscribe', 'news', 2)
      model.advance(25)
      t.same(
        sentTypes().slice(before),
        ['SUBSCRIBE'],
        'the topic is in the stored state, but perhaps not at the server',
      )
      model.receive({ type: 'DONE', request: lastRequest(), subscriptions: 3 })
      t.equal(model.memory.subscriptions, 1)
      model.loseSocket(1006)
      connect(3)
      model.advance(25)
      t.equal(sentTypes().at(-1), 'REGISTER', 'the client repeats all registrations')
    },
  )
}

t.test('alternating requests for one topic are sent in order, and equal neighbours share one frame', async (t) => {
  const { model, requestTopic, sentTypes, lastRequest } = connectedModel()
  requestTopic('subscribe', 'a', 1)
  requestTopic('unsubscribe', 'a', 2)
  requestTopic('subscribe', 'a', 3)
  requestTopic('subscribe', 'a', 4)
  for (let n = 0; n < 4; n++) {
    model.receive({ type: 'DONE', request: lastRequest(), subscriptions: 2 + n })
    model.advance(25)
  }
  t.same(sentTypes(), ['SUBSCRIBE', 'UNSUBSCRIBE', 'SUBSCRIBE'], 'the last two requests share a frame')
  t.equal(model.memory.topicList().length, 1)
})

t.test('with another version the client repeats no SUBSCRIBE or REGISTER whose end is requested', async (t) => {
  const { model, connect, requestTopic, requestRegistration, sentTypes } = connectedModel()
  for (const topic of ['news', 'goals']) {
    model.memory.apply({ kind: 'topic', topic: { application: 'app_a', user: '', topic }, subscribed: true })
  }
  requestTopic('unsubscribe', 'news', 1)
  model.loseSocket(1006)
  connect(9)
  model.receive({
    ...{ type: 'REGISTERED', request: requestOf(model, 'REGISTER'), registration: 1, registrationId: 'r' },
    ...{ subscriptions: 9, project: 'acme' },
  })
  for (let n = 0; n < 4; n++) model.advance(25)
  t.same(sentTypes().sort(), ['REGISTER', 'SUBSCRIBE', 'UNSUBSCRIBE', 'UNSUBSCRIBE'])
  requestRegistration('unregister', 2)
  model.loseSocket(1006)
  const before = sentTypes().length
  connect(12)
  for (let n = 0; n < 8; n++) model.advance(25)
  t.notOk(sentTypes().slice(before).includes('REGISTER'), 'the app requested UNREGISTER')
})

t.test('a request that is refused for good does not block the requests after it', async (t) => {
  const { model, requestTopic, requestRegistration, sentTypes, lastRequest } = connectedModel()
  requestTopic('subscribe', 'news', 1)
  const subscribe = lastRequest()
  requestRegistration('unregister', 2)
  requestRegistration('register', 3)
  const error = { ...ERROR, code: 'unknown_registration' } as const
  model.receive({ ...error, request: subscribe })
  model.advance(25)
  model.receive({ ...error, request: lastRequest() })
  model.advance(25)
  model.receive({ type: 'DONE', request: lastRequest(), subscriptions: 2 })
  model.advance(25)
  t.same(sentTypes(), ['SUBSCRIBE', 'SUBSCRIBE', 'UNREGISTER', 'REGISTER'])
})

t.test('a request is repeated after a temporary or unknown error, and rejects after another one', async (t) => {
  const transport = await server(t)
  const device = client(t, transport.url, memory())
  device.connect()
  const peer = await transport.welcomed()
  const failing = device.register('app_b')
  const { request } = await peer.next('REGISTER')
  peer.send({ ...ERROR, code: 'unavailable', request })
  const again = await peer.next('REGISTER')
  t.not(again.request, request, 'the repeat has a new number')
  // An answer to the old number must have no effect.
  peer.send({ ...ERROR, code: 'unknown_application', request })
  peer.send({ ...ERROR, code: 'of_a_later_version', request: again.request, retryAfterMs: 1 })
  const last = await peer.next('REGISTER')
  peer.send({ ...ERROR, code: 'unknown_application', request: last.request })
  await t.rejects(failing, { code: 'request_refused', serverCode: 'unknown_application' })
})

t.test('a subscribe for an application without registration is refused without a request', async (t) => {
  const transport = await server(t)
  const device = client(t, transport.url, memory())
  device.connect()
  const peer = await transport.welcomed()
  await t.rejects(device.subscribe('x', { application: 'app_b' }), { code: 'no_registration' })
  t.same(peer.frames, [])
})

t.test('a register with a user token that is no JWT is refused as bad_user_token', async (t) => {
  const transport = await server(t)
  const device = client(t, transport.url, memory())
  device.connect()
  await transport.welcomed()
  await t.rejects(device.register('app_c', { userToken: 'x' }), {
    code: 'request_refused',
    serverCode: 'bad_user_token',
  })
})

t.test('at most 8 requests are under way, and unsubscribe of an unknown registration resolves', async (t) => {
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
  const error = { ...ERROR, code: 'unknown_registration' } as const
  for (let request = 1; request <= 20; request++) {
    t.ok(peer.frames.filter((f) => f.type === 'UNSUBSCRIBE').length <= request, 'one further request for each answer')
    if (request > 8) await peer.next('UNSUBSCRIBE')
    peer.send({ ...error, request })
  }
  await all
})

t.test(
  'a request without an answer is sent requestAttemptsMax times, and then rejects with request_timeout',
  async (t) => {
    const transport = await server(t)
    const settings = { requestTimeoutMs: 10, requestAttemptsMax: 3 }
    const device = client(t, transport.url, memory(), { settings })
    device.connect()
    const peer = await transport.welcomed()
    const ended = t.rejects(device.register('app_d'), { code: 'request_timeout' })
    for (let attempt = 0; attempt < 3; attempt++) await peer.next('REGISTER')
    await ended
    t.same(peer.frames, [], 'no fourth attempt')
  },
)

t.test('with two registrations unregister without an application is refused', async (t) => {
  const transport = await server(t)
  const device = client(t, transport.url, memory())
  device.connect()
  const peer = await transport.welcomed()
  const registering = device.register('app_b')
  await answerRegister(peer, 2, 'rid-2', 2)
  await registering
  await t.rejects(device.unregister(), { code: 'no_registration' })
})

t.test('late pushes for an ended registration are acknowledged and not shown', async (t) => {
  const transport = await server(t)
  const device = client(t, transport.url, memory())
  const inbox = new Inbox(device)
  device.connect()
  const peer = await transport.welcomed()
  const registering = device.register('app_b')
  await answerRegister(peer, 2, 'rid-2', 2)
  await registering

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

t.test('close rejects pending requests, sends BYE and closes with code 1000', async (t) => {
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
