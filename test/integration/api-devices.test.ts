import { importPKCS8, SignJWT } from 'jose'
import t, { type Test } from 'tap'
import {
  type DeviceReply,
  type DeviceRequest,
  decodeDeviceReply,
  encodeDeviceRequest,
} from '../../protocol/envelope.js'
import { type ErrorCode, Errors } from '../../protocol/errors.js'
import { Bucket, DEVICE_REQUEST_SUBJECT } from '../../protocol/subjects.js'
import { decodeRegistrationId } from '../../src/core/domain/registration-id.js'
import { mintUserToken } from '../../src/core/tenants/auth/service-keys.js'
import {
  addServiceKey,
  createApplication,
  createFleet,
  createProject,
  removeServiceKey,
  revokeDevice,
  revokeRegistration,
  setFleetProjects,
  setNeedsUser,
  setProjectActive,
} from '../../src/core/tenants/projects.js'
import type { Broker } from '../../src/nats/broker.js'
import { DeviceStore } from '../../src/store/devices.js'
import { startTestApi, type TestApi, type TestApiOptions, until } from '../support/api.js'

const device = 'dev_0123456789abcdefghij'
const stranger = 'dev_jihgfedcba9876543210'

interface Setup {
  api: TestApi
  /** A connection with the permissions of a transport worker. */
  worker: Broker
  records: DeviceStore
  ask(request: DeviceRequest): Promise<DeviceReply>
  register(fields?: Partial<DeviceRequest & { kind: 'register' }>): Promise<DeviceReply & { ok: true }>
}

async function setUp(t: Test, options?: TestApiOptions): Promise<Setup> {
  const api = await startTestApi(t, options)
  const worker = await api.nats.brokerAs('transport')
  const ask = async (request: DeviceRequest) =>
    decodeDeviceReply(
      await worker.bus.request(DEVICE_REQUEST_SUBJECT, encodeDeviceRequest(request), { timeoutMs: 5_000 }),
    )
  const register: Setup['register'] = async (fields = {}) => {
    const reply = await ask({ kind: 'register', device, application: api.application, userToken: '', ...fields })
    if (!reply.ok) throw new Error(`the registration was refused: ${reply.code}`)
    return reply
  }
  return { api, worker, records: new DeviceStore(worker.table(Bucket.DEVICES)), ask, register }
}

function isRefused(t: Test, reply: DeviceReply, code: ErrorCode, name: string = code): void {
  t.match(reply, { ok: false, code }, name)
  t.ok(code in Errors, `${name}: a registered code`)
}

t.test('a repeated register gets the same number and id; another application or device gets another', async (t) => {
  const { api, register, records } = await setUp(t)
  const first = await register()
  t.match(first, { registration: 1, subscriptions: 1, project: api.project })
  t.same(decodeRegistrationId(api.registrationKeys, first.registrationId), {
    project: api.project,
    application: api.application,
    device,
    registration: 1,
  })
  t.same(await register(), first, 'a repeat, as at each start of the app')
  const { id: second } = await createApplication(api.tenants, api.project)
  t.match(await register({ application: second }), { registration: 2, subscriptions: 2 }, 'another application')
  t.match(await register({ device: stranger }), { registration: 1, subscriptions: 1 }, 'another device')
  const record = await records.read(device)
  t.equal(record.version, 2)
  t.equal(record.nextNumber, 3)
  t.match(record.registrations, [
    { number: 1, application: api.application, user: '', since: 0, addedVersion: 1 },
    { number: 2, application: second, addedVersion: 2 },
  ])
})

t.test('concurrent registrations of one device get a number each, and all are stored', async (t) => {
  const { api, register, records } = await setUp(t)
  const applications = await Promise.all(
    Array.from({ length: 6 }, async () => (await createApplication(api.tenants, api.project)).id),
  )
  const replies = await Promise.all(applications.map((application) => register({ application })))
  t.same(replies.map((reply) => reply.registration).sort(), [1, 2, 3, 4, 5, 6])
  t.equal((await records.read(device)).registrations.length, 6)
})

t.test('a device registers only for applications of projects that its fleet is allowed', async (t) => {
  const { api, ask, register } = await setUp(t)
  const other = await createProject(api.tenants, { id: 'other', alg: 'ES256' })
  const { id: theirs } = await createApplication(api.tenants, other.project.id)
  const { fleet } = await createFleet(api.tenants)
  const request = { kind: 'register', device, fleet: fleet.id, userToken: '' } as const
  t.match(await ask({ ...request, application: theirs }), { ok: true }, 'a fleet without a limit')
  await setFleetProjects(api.tenants, fleet.id, [api.project])
  const later = { ...request, device: stranger }
  await until('the core has seen the limit', async () => !(await ask({ ...later, application: theirs })).ok)
  isRefused(t, await ask({ ...later, application: theirs }), 'unknown_application', 'an application of another project')
  t.match(await ask({ ...later, application: api.application }), { ok: true }, 'an allowed project')
  isRefused(t, await ask({ ...request, application: theirs }), 'unknown_application', 'also with a registration before')
  t.match(await register({ application: theirs }), { ok: true }, 'a worker that does not name the fleet')
  await setFleetProjects(api.tenants, fleet.id, null)
  await until('the limit is gone', async () => (await ask({ ...later, application: theirs })).ok)
  await t.rejects(setFleetProjects(api.tenants, fleet.id, ['nobody']), { code: 'unknown_project' })
  await t.rejects(setFleetProjects(api.tenants, 'fleet_000000000000', null), { code: 'not_found' })
})

t.test('an application that needs a user registers with a user token only', async (t) => {
  const { api, ask, register } = await setUp(t)
  await setNeedsUser(api.tenants, api.project, api.application, true)
  const request = { kind: 'register', device, application: api.application, userToken: '' } as const
  await until('the core has seen the rule', async () => !(await ask(request)).ok)
  isRefused(t, await ask(request), 'bad_user_token')
  const claims = { user: 'Anna', application: api.application, device, nowMs: api.clock.now(), lifetimeSeconds: 60 }
  t.match(await register({ userToken: await mintUserToken(api.serviceKey, claims) }), { ok: true })
  await setNeedsUser(api.tenants, api.project, api.application, false)
  await until('the rule is gone', async () => (await ask(request)).ok)
  await t.rejects(setNeedsUser(api.tenants, 'other', api.application, true), { code: 'not_found' })
})

t.test('a registration with a user token', async (t) => {
  const { api, ask, register, records } = await setUp(t)
  const claims = {
    user: 'Anna Ö.',
    application: api.application,
    device,
    nowMs: api.clock.now(),
    lifetimeSeconds: 60,
  }
  const userToken = await mintUserToken(api.serviceKey, claims)

  await t.test('is another registration than one without a user, and stores the user', async (t) => {
    t.equal((await register()).registration, 1)
    t.equal((await register({ userToken })).registration, 2)
    t.equal((await register({ userToken })).registration, 2)
    t.equal((await records.read(device)).registrations[1]?.user, 'Anna Ö.')
  })

  const other = await createProject(api.tenants, { id: 'other', alg: 'ES256' })
  const rsa = await addServiceKey(api.tenants, api.project, 'RS256')
  const key = await importPKCS8(api.serviceKey.privateKey, 'ES256')
  const sign = (header: object, body: object) =>
    new SignJWT({ sub: 'Anna', aud: api.application, device, exp: claims.nowMs / 1000 + 60, ...body })
      .setProtectedHeader({ alg: 'ES256', typ: 'borealis-user+jwt', kid: api.serviceKey.keyId, ...header })
      .sign(key)
  const bad: Record<string, string> = {
    'not a token': 'x',
    'another project signed it': await mintUserToken(other.serviceKey, claims),
    'for another application': await mintUserToken(api.serviceKey, {
      ...claims,
      application: `app_${'b'.repeat(20)}`,
    }),
    'for another device': await mintUserToken(api.serviceKey, { ...claims, device: stranger }),
    expired: await mintUserToken(api.serviceKey, { ...claims, nowMs: claims.nowMs - 3_600_000 }),
    'another type': await sign({ typ: 'JWT' }, {}),
    'an unknown key': await sign({ kid: 'nobody' }, {}),
    'the key of another algorithm': await sign({ kid: rsa.keyId }, {}),
    'no user': await sign({}, { sub: '' }),
    'a user too long': await sign({}, { sub: 'u'.repeat(129) }),
    'no expiry': await sign({}, { exp: undefined }),
  }
  const request = { kind: 'register', device, application: api.application } as const
  await t.test('is bad_user_token unless a key of the project signed it for this application and device', async (t) => {
    for (const [name, token] of Object.entries(bad)) {
      isRefused(t, await ask({ ...request, userToken: token }), 'bad_user_token', name)
    }
    t.equal((await records.read(device)).registrations.length, 2, 'no refused token changed the record')
  })

  await t.test('is accepted at each moment of the replacement of the key, with the old or the new key', async (t) => {
    await until('the new key is known', async () => {
      const project = await api.directory.project(api.project)
      return project?.serviceAccount.keys.length === 2
    })
    t.equal((await register({ userToken: await mintUserToken(rsa, claims) })).registration, 2)
    await removeServiceKey(api.tenants, api.project, api.serviceKey.keyId)
    await until('the old key is gone', async () => {
      const project = await api.directory.project(api.project)
      return project?.serviceAccount.keys.length === 1
    })
    isRefused(t, await ask({ ...request, userToken }), 'bad_user_token')
    t.equal((await register({ userToken: await mintUserToken(rsa, claims) })).registration, 2)
  })
})

t.test('the topics of a registration', async (t) => {
  const { api, ask, register, records } = await setUp(t)
  const topic = { device, registration: 1, topic: 'news.local' } as const

  await t.test('subscribe without a registration is unknown_registration', async (t) => {
    isRefused(t, await ask({ kind: 'subscribe', ...topic }), 'unknown_registration')
  })

  await register()
  await t.test(
    'subscribe stores the position in the log and raises the version, and a repeat changes nothing',
    async (t) => {
      const broadcast = api.broker.log('BROADCAST')
      await broadcast.append('broadcast.acme.topic.x', Buffer.from('1'))
      await broadcast.append('broadcast.acme.topic.x', Buffer.from('2'))
      t.match(await ask({ kind: 'subscribe', ...topic }), { ok: true, registration: 1, subscriptions: 2 })
      t.match(await ask({ kind: 'subscribe', ...topic }), { ok: true, subscriptions: 2 }, 'a repeat changes nothing')
      t.same((await records.read(device)).topics, [
        { registration: 1, project: api.project, topic: 'news.local', since: 2, addedVersion: 2 },
      ])
    },
  )

  await t.test('subscribe to an invalid topic is invalid_request', async (t) => {
    for (const name of ['', 'a b', 'a/b', '*', '>', 'x'.repeat(65)]) {
      isRefused(t, await ask({ kind: 'subscribe', ...topic, topic: name }), 'invalid_request', JSON.stringify(name))
    }
  })

  await t.test(
    'unsubscribe removes the topic and raises the version; of another topic it changes nothing',
    async (t) => {
      t.match(await ask({ kind: 'unsubscribe', ...topic, topic: 'other' }), { ok: true, subscriptions: 2 })
      t.match(await ask({ kind: 'unsubscribe', ...topic }), { ok: true, subscriptions: 3 })
      t.same((await records.read(device)).topics, [])
    },
  )
})

t.test('unregister', async (t) => {
  const { api, ask, register, records } = await setUp(t)
  const { registrationId } = await register()
  await ask({ kind: 'subscribe', device, registration: 1, topic: 'news' })
  const end = { kind: 'unregister', device, registration: 1 } as const

  await t.test(
    'answers the new version, also a repeat after a lost answer; an unknown number is refused',
    async (t) => {
      t.match(await ask(end), { ok: true, subscriptions: 3 })
      t.match(await ask(end), { ok: true, subscriptions: 3 }, 'a repeat')
      isRefused(t, await ask({ ...end, registration: 2 }), 'unknown_registration')
      isRefused(t, await ask({ ...end, registration: 0 }), 'unknown_registration')
    },
  )

  await t.test('removes the registration and its topics', async (t) => {
    t.match(await records.read(device), { registrations: [], topics: [] })
  })

  await t.test('makes senders get 410 revoked_registration', async (t) => {
    await until('the gateway knows of the revocation', () => api.directory.isRegistrationRevoked(device, 1))
    const answer = await api.gateway.app.inject({
      method: 'POST',
      url: `/push/public/api/v1/projects/${api.project}/messages`,
      headers: { authorization: `Bearer ${api.token}` },
      payload: { target: registrationId, type: 'device', ttl: '1m' },
    })
    t.equal(answer.statusCode, 410)
    t.equal(answer.json().error.code, 'revoked_registration')
  })

  await t.test('is followed by a registration with a new number and id', async (t) => {
    const next = await register()
    t.equal(next.registration, 2)
    t.not(next.registrationId, registrationId)
  })
})

t.test('after a revocation a registration gets a new number, and a revoked device cannot register', async (t) => {
  const { api, ask, register } = await setUp(t)
  await register()
  await revokeRegistration(api.tenants, device, 1)
  t.equal((await register()).registration, 2, 'a new number')
  await revokeDevice(api.tenants, device)
  await until('the device is revoked', () => api.directory.isDeviceRevoked(device))
  const request = { kind: 'register', device, application: api.application, userToken: '' } as const
  isRefused(t, await ask(request), 'forbidden')
})

t.test('requests of devices', async (t) => {
  const { api, ask, register } = await setUp(t, { devices: { registrationsMax: 2, topicsMax: 2 } })
  const request = { kind: 'register', device, application: api.application, userToken: '' } as const
  await t.test('a registration for an unknown application or of an invalid device is refused', async (t) => {
    isRefused(t, await ask({ ...request, application: `app_${'z'.repeat(20)}` }), 'unknown_application')
    isRefused(t, await ask({ ...request, application: '>' }), 'unknown_application')
    isRefused(t, await ask({ ...request, device: 'nobody' }), 'forbidden')
  })

  await t.test('a registration beyond registrationsMax is refused, and existing ones stay valid', async (t) => {
    const { id: second } = await createApplication(api.tenants, api.project)
    const { id: third } = await createApplication(api.tenants, api.project)
    await register()
    await register({ application: second })
    isRefused(t, await ask({ ...request, application: third }), 'too_many_registrations')
    t.equal((await register()).registration, 1)
  })

  await t.test('a subscription beyond topicsMax is refused', async (t) => {
    for (const topic of ['a', 'b']) await ask({ kind: 'subscribe', device, registration: 1, topic })
    isRefused(t, await ask({ kind: 'subscribe', device, registration: 1, topic: 'c' }), 'too_many_topics')
  })

  await t.test('a registration for a suspended project is refused', async (t) => {
    await setProjectActive(api.tenants, api.project, false)
    await until('the suspension is in effect', async () => !(await api.directory.project(api.project))?.isActive)
    isRefused(t, await ask(request), 'project_inactive')
  })
})

t.test('bytes that are no request of a device are invalid_request', async (t) => {
  const { api, worker, ask } = await setUp(t)
  for (const bytes of [
    Buffer.alloc(0),
    Buffer.from('hello'),
    Buffer.from([0xc1]),
    Buffer.from([0x81, 0xa1, 0x76, 0x63]),
  ]) {
    const reply = decodeDeviceReply(await worker.bus.request(DEVICE_REQUEST_SUBJECT, bytes, { timeoutMs: 5_000 }))
    isRefused(t, reply, 'invalid_request', bytes.toString('hex'))
  }
  const request = { kind: 'register', device, application: api.application, userToken: '' } as const
  isRefused(t, await ask({ ...request, kind: 'dance' } as unknown as DeviceRequest), 'invalid_request')
})

t.test(
  'without the store a registration is unavailable, with a time to retry; after its return it is answered',
  async (t) => {
    const { api, worker, ask } = await setUp(t, { requestTimeoutMs: 300 })
    const request = { kind: 'register', device, application: api.application, userToken: '' } as const
    await api.nats.kill9()
    const reply = await api.devices.handle(encodeDeviceRequest(request))
    isRefused(t, reply, 'unavailable')
    t.ok(!reply.ok && reply.retryAfterMs > 0, 'with a time to retry after')
    await api.nats.start()
    await until('both are connected again', () => api.broker.connected() && worker.connected())
    t.match(await ask(request), { ok: true, registration: 1 }, 'after the reconnect')
  },
)
