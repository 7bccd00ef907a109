import t, { type Test } from 'tap'
import {
  decodeControlRequest,
  decodeDeviceReply,
  encodeControlReply,
  encodeDeviceRequest,
} from '../../protocol/envelope.js'
import { Bucket, controlSubject, DEVICE_REQUEST_SUBJECT } from '../../protocol/subjects.js'
import { createApplication, createProject, revokeDevice } from '../../src/core/tenants/projects.js'
import { DeviceStore } from '../../src/store/devices.js'
import { RegistrationIndex } from '../../src/store/registrations.js'
import { SessionTable } from '../../src/store/sessions.js'
import { startTestApi, type TestApi, type TestApiOptions, until } from '../support/api.js'
import { API, ask, isError, registrationIdOf } from '../support/http.js'

const deviceOf = (n: number) => `dev_${String(n).padStart(20, '0')}`

interface Setup {
  api: TestApi
  url: string
  records: DeviceStore
  register(device: string, application?: string): Promise<string>
}

async function setUp(t: Test, options?: TestApiOptions): Promise<Setup> {
  const api = await startTestApi(t, options)
  const worker = await api.nats.brokerAs('transport')
  return {
    api,
    url: `${API}/${api.project}`,
    records: new DeviceStore(worker.table(Bucket.DEVICES)),
    register: async (device, application = api.application) => {
      const request = encodeDeviceRequest({ kind: 'register', device, application, userToken: '' })
      const reply = decodeDeviceReply(await worker.bus.request(DEVICE_REQUEST_SUBJECT, request, { timeoutMs: 5_000 }))
      if (!reply.ok) throw new Error(reply.code)
      return reply.registrationId
    },
  }
}

t.test('the list of registrations', async (t) => {
  const { api, url, register } = await setUp(t)
  const { id: second } = await createApplication(api.tenants, api.project)
  await createProject(api.tenants, { id: 'other', alg: 'ES256' })
  const { id: foreign } = await createApplication(api.tenants, 'other')
  const ids: string[] = []
  for (let n = 0; n < 7; n++) ids.push(await register(deviceOf(n)))
  const others = [await register(deviceOf(0), second), await register(deviceOf(1), second)]
  await register(deviceOf(2), foreign)
  t.equal(await register(deviceOf(3)), ids[3], 'a repeated registration, as at each start of the app')

  await t.test('has each registration once, in pages, in the order of their making', async (t) => {
    const pageAfter = async (cursor: string) => {
      const query = `application=${api.application}&limit=3${cursor && `&cursor=${cursor}`}`
      return (await ask(api, { url: `${url}/registrations?${query}` })).body
    }
    const seen: string[] = []
    for (let cursor = '', pages = 0; pages < 5; pages++) {
      const { registrations, next } = await pageAfter(cursor)
      seen.push(...registrations.map(({ registrationId }: { registrationId: string }) => registrationId))
      if (next === undefined) break
      cursor = next
    }
    t.same(seen, ids)
  })

  const listed = async (query: string) => {
    const { body } = await ask(api, { url: `${url}/registrations?${query}` })
    return body.registrations.map(({ registrationId }: { registrationId: string }) => registrationId)
  }

  await t.test('has registrations of the project only, of one application or of all', async (t) => {
    t.same(await listed(`application=${second}`), others)
    t.same(await listed(''), [...ids, ...others], 'without a filter')
    t.same(await listed(`application=${foreign}`), [], "another project's application")
    t.same(await listed('application=*'), [])
    t.same(await listed('application=>'), [])
  })

  await t.test('has no registration of a revoked device', async (t) => {
    await revokeDevice(api.tenants, deviceOf(0))
    await until('the revocation is known', () => api.directory.isDeviceRevoked(deviceOf(0)))
    t.same(await listed(`application=${api.application}`), ids.slice(1))
  })

  await t.test('has no entry of the index without a registration', async (t) => {
    const stale = new RegistrationIndex(api.broker)
    await stale.put({ project: api.project, application: second, user: '', device: deviceOf(9) })
    t.same(await listed(`application=${second}`), others.slice(1))
  })
})

t.test('invalid queries of registrations and counters are refused, and valid ones filter', async (t) => {
  const { api, url } = await setUp(t)
  for (const query of [
    'limit=0',
    'limit=101',
    'limit=x',
    'cursor=-1',
    'cursor=x',
    'limit=1&limit=2',
    `user=${'u'.repeat(129)}`,
    // A script whose variable is not set must not list the registrations of all users.
    'user=',
    'application=',
    'cursor=0',
  ]) {
    isError(t, await ask(api, { url: `${url}/registrations?${query}` }), 'invalid_request', query)
  }
  for (const query of ['from=yesterday', 'from=', 'to=2025-13-40', 'from=2025-01-01&from=2025-01-02']) {
    isError(t, await ask(api, { url: `${url}/counters?${query}` }), 'invalid_request', query)
  }
  const counters = async (query: string) => (await ask(api, { url: `${url}/counters?${query}` })).body.total
  t.same(await counters('from=2025-01-02'), { accepted: 1, delivered: 1 })
  t.same(await counters('to=2025-01-01'), { accepted: 3, delivered: 2, pending: 1 })
  t.same(await counters('application=app_none'), {})
})

t.test('an unknown, repeated or invalid parameter is refused by name', async (t) => {
  const { api, url } = await setUp(t)
  const refused: [string, string, string][] = [
    ['/registrations?target=x', 'target', 'there is no parameter target; there are: application, user, limit, cursor'],
    ['/messages?target=x', 'target', 'there is no parameter target; there are: limit, before'],
    ['/messages/1?verbose', 'verbose', 'there is no parameter verbose'],
    ['/counters?form=2025-01-01', 'form', 'there is no parameter form; there are: application, from, to'],
    ['/messages?limit=1&limit=1', 'limit', 'limit is given twice'],
    ['/messages?limit=1e1', 'limit', 'limit must be an integer from 1 to 100'],
    ['/messages?before=-1', 'before', 'before must be the `next` of a page'],
    ['?x=1', 'x', 'there is no parameter x'],
  ]
  for (const [path, field, message] of refused) {
    const answer = await ask(api, { url: `${url}${path}` })
    isError(t, answer, 'invalid_request', path)
    t.match(answer.body.error, { message, details: { field } }, path)
  }
  const anonymous = await ask(api, { url: `${url}/messages?target=x`, token: null })
  isError(t, anonymous, 'missing_token', 'without a token no answer names parameters')
})

t.test('a registration that an app server ends is no longer listed, and the app gets a new one', async (t) => {
  const { api, url, register, records } = await setUp(t)
  const target = await register(deviceOf(1))
  const remove = (id: string) => ask(api, { method: 'DELETE', url: `${url}/registrations/${id}` })
  isError(t, await remove('forged'), 'unknown_registration')
  isError(t, await remove(registrationIdOf(api, { project: 'other' })), 'foreign_registration')
  isError(
    t,
    await remove(registrationIdOf(api, { device: deviceOf(8) })),
    'unknown_registration',
    'a registration that never existed',
  )
  t.same((await remove(target)).body, { registrationId: target, revoked: true })
  t.same((await records.read(deviceOf(1))).registrations, [])
  t.same((await ask(api, { url: `${url}/registrations` })).body, { registrations: [] })
  const next = await register(deviceOf(1))
  t.not(next, target)
  const { registrations } = (await ask(api, { url: `${url}/registrations` })).body
  t.match(registrations, [{ registrationId: next, channel: 'native' }], 'the new one is listed')
})

t.test('a registration that races with the end of the previous one is listed', async (t) => {
  const { api, url, register } = await setUp(t)
  let id = await register(deviceOf(1))
  for (let round = 0; round < 10; round++) {
    await Promise.all([
      ask(api, { method: 'DELETE', url: `${url}/registrations/${id}` }),
      register(deviceOf(1)),
      register(deviceOf(1)),
    ])
    id = await register(deviceOf(1))
    const { registrations } = (await ask(api, { url: `${url}/registrations` })).body
    t.match(registrations, [{ registrationId: id }], `round ${round}`)
  }
})

t.test('subscribing and unsubscribing several registrations', async (t) => {
  const { api, url, register, records } = await setUp(t, { devices: { topicsMax: 2 } })
  const { id: second } = await createApplication(api.tenants, api.project)
  const ids = [await register(deviceOf(1)), await register(deviceOf(2)), await register(deviceOf(1), second)]
  const change = (verb: string, topic: string, registrationIds: unknown) =>
    ask(api, { url: `${url}/topics/${topic}/${verb}`, body: { registrationIds } })

  const notices: string[] = []
  const worker = await api.nats.brokerAs('transport')
  worker.bus.subscribe(controlSubject('i', 'w'), ({ body, reply }) => {
    const request = decodeControlRequest(body)
    notices.push(`${request.kind} ${request.device}`)
    worker.bus.publish(reply, encodeControlReply('here'))
  })
  await new SessionTable(worker.table(Bucket.SESSIONS), api.clock).claim(deviceOf(1), {
    ...{ instance: 'i', worker: 'w', connection: 1 },
  })

  await t.test(
    'subscribes the valid ones, lists the others, and notifies the worker of a connected device once',
    async (t) => {
      const first = await change('subscribe', 'news', [
        ...ids,
        ids[0],
        'forged',
        registrationIdOf(api, { project: 'x' }),
      ])
      t.match(first.body, { topic: 'news', done: 3 })
      t.same(
        first.body.rejected.map(({ code }: { code: string }) => code),
        ['unknown_registration', 'foreign_registration'],
      )
      t.same(notices, [`refresh ${deviceOf(1)}`])
      t.equal((await records.read(deviceOf(1))).topics.length, 2)
    },
  )

  await t.test(
    'is done for subscribed ones too, and notifies again, because a notice may have been lost',
    async (t) => {
      t.equal((await change('subscribe', 'news', ids)).body.done, 3)
      t.equal(notices.length, 2)
    },
  )

  await t.test('rejects a topic beyond topicsMax for the device', async (t) => {
    t.match((await change('subscribe', 'sport', ids)).body, {
      ...{ done: 1, rejected: [{ code: 'too_many_topics' }, { code: 'too_many_topics' }] },
    })
  })

  await t.test('unsubscribes them', async (t) => {
    t.equal((await change('unsubscribe', 'news', ids)).body.done, 3)
    t.same((await records.read(deviceOf(1))).topics, [])
  })

  await t.test('refuses an invalid body or topic', async (t) => {
    for (const wrong of [undefined, [], 'x', [5], [''], ['x'.repeat(513)], Array(1_001).fill('x')]) {
      isError(t, await change('subscribe', 'news', wrong), 'invalid_request', JSON.stringify(wrong)?.slice(0, 20))
    }
    isError(t, await change('subscribe', 'a b'.replace(' ', '%20'), ids), 'invalid_request', 'not a topic name')
    isError(t, await ask(api, { url: `${url}/topics/news/subscribe`, raw: '{' }), 'malformed_json')
  })

  await t.test('rejects each of a thousand registrations that do not exist', async (t) => {
    const thousand = Array.from({ length: 1_000 }, (_, n) => registrationIdOf(api, { device: deviceOf(n + 10) }))
    const { rejected } = (await change('subscribe', 'news', thousand)).body
    t.equal(rejected.length, 1_000)
    t.equal(rejected[0].code, 'revoked_registration')
  })
})

t.test('subscribing a device whose worker is dead is done, and without the store it is unavailable', async (t) => {
  const { api, url, register } = await setUp(t, { requestTimeoutMs: 300 })
  const id = await register(deviceOf(1))
  const topic = { url: `${url}/topics/news/subscribe`, body: { registrationIds: [id] } }
  const worker = await api.nats.brokerAs('transport')
  const sessions = new SessionTable(worker.table(Bucket.SESSIONS), api.clock)
  await sessions.claim(deviceOf(1), { instance: 'dead', worker: 'w', connection: 1 })
  t.equal((await ask(api, topic)).body.done, 1, 'a dead worker')
  await api.nats.kill9()
  await until('the core has noticed the lost connection', () => !api.broker.connected())
  isError(t, await ask(api, topic), 'unavailable', 'subscribing')
  isError(t, await ask(api, { url: `${url}/registrations` }), 'unavailable', 'the list')
  isError(
    t,
    await ask(api, { method: 'DELETE', url: `${url}/registrations/${id}` }),
    'unavailable',
    'the end of a registration',
  )
})
