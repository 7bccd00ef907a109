import { unpack } from 'msgpackr'
import t from 'tap'
import type { ErrorCode } from '../../protocol/errors.js'
import type { MessageStatus } from '../../src/core/domain/commands.js'
import { mintAccessToken } from '../../src/core/tenants/auth/tokens.js'
import {
  createApplication,
  createFleet,
  createProject,
  getProject,
  mintToken,
  revokeDevice,
  revokeRegistration,
  setProjectActive,
} from '../../src/core/tenants/projects.js'
import { DeviceTokenVerifier } from '../../src/device-token.js'
import { Keyring } from '../../src/keyring.js'
import { startTestApi, type TestApi, until } from '../support/api.js'
import { API, ask, device, isError, messagesOf, overSocket, registrationIdOf } from '../support/http.js'

t.test('a posted message', async (t) => {
  const api = await startTestApi(t)
  const target = registrationIdOf(api)
  const notification = { title: 'T', message: 'M', data: { mtype: 'notify' } }
  const body = { target, type: 'device', ttl: '5h30m', priority: 'high', collapseKey: 'k', notification, extra: 1 }
  await t.test('is accepted with 202, and the core gets each field', async (t) => {
    const answer = await ask(api, { url: messagesOf(api), body })
    t.equal(answer.statusCode, 202)
    const { acceptedAt, expiredAt, ...rest } = answer.body
    t.same(rest, {
      id: '4611686018427387905',
      status: 'accepted',
      type: 'device',
      target,
      warnings: ['unknown field extra'],
    })
    t.equal(Date.parse(expiredAt) - Date.parse(acceptedAt), 19_800_000)
    const [command] = api.core.accepted
    t.match(command, {
      project: api.project,
      type: 'device',
      targets: [{ application: api.application, device, registration: 1, registrationId: target }],
      group: null,
      ttlMs: 19_800_000,
      priority: 'high',
      collapseKey: 'k',
      title: 'T',
      message: 'M',
    })
    t.same(unpack(command?.data ?? Buffer.alloc(0)), { mtype: 'notify' })
  })

  await t.test('is accepted with doubled slashes in the path, and without a content type', async (t) => {
    const raw = JSON.stringify({ target, type: 'device', ttl: '0s' })
    const doubled = messagesOf(api).replace('/v1/', '/v1//')
    t.equal((await ask(api, { url: doubled, raw })).statusCode, 202)
    const { url } = await api.gateway.listen()
    const withoutType = await overSocket(url, 'POST', `/${doubled}`, [`authorization: Bearer ${api.token}`], raw)
    t.match(withoutType, /^HTTP\/1.1 202 /)
  })

  await t.test('to a topic, a user or an application becomes a group command without targets', async (t) => {
    const groups: [string, string, object][] = [
      ['topic', 'news.local', { kind: 'topic', name: 'news.local' }],
      ['user', 'Anna Ö.', { kind: 'user', name: 'Anna Ö.' }],
      ['application', api.application, { kind: 'app', name: api.application }],
    ]
    for (const [type, name, group] of groups) {
      const answer = await ask(api, { url: messagesOf(api), body: { type, target: name, ttl: '1m' } })
      t.equal(answer.statusCode, 202, type)
      t.equal(answer.body.target, name)
      t.match(api.core.accepted.at(-1), { type, targets: [], group })
    }
  })

  await t.test('with validateOnly is checked and not accepted', async (t) => {
    const before = api.core.accepted.length
    const checked = await ask(api, { url: messagesOf(api), body: { ...body, validateOnly: true } })
    t.equal(checked.statusCode, 200)
    t.same(checked.body, { status: 'valid', type: 'device', target, warnings: ['unknown field extra'] })
    isError(t, await ask(api, { url: messagesOf(api), body: { ...body, validateOnly: 1 } }), 'invalid_request')
    const forged = { ...body, target: 'forged', validateOnly: true }
    isError(t, await ask(api, { url: messagesOf(api), body: forged }), 'unknown_registration')
    t.equal(api.core.accepted.length, before)
  })

  await t.test('to several devices has each target once, and lists the refused ones', async (t) => {
    const other = registrationIdOf(api, { registration: 2 })
    const foreign = registrationIdOf(api, { project: 'other' })
    const list = [target, other, target, foreign, 'forged']
    const answer = await ask(api, { url: messagesOf(api), body: { type: 'devices', target: list, ttl: '1m' } })
    t.equal(answer.statusCode, 202)
    t.same(answer.body.target, list)
    t.same(answer.body.rejected, [
      { target: foreign, code: 'foreign_registration' },
      { target: 'forged', code: 'unknown_registration' },
    ])
    t.same(
      api.core.accepted.at(-1)?.targets.map(({ registrationId }) => registrationId),
      [target, other],
    )
    const before = api.core.accepted.length
    const none = await ask(api, {
      url: messagesOf(api),
      body: { type: 'devices', target: [foreign], ttl: '1m' },
    })
    isError(t, none, 'foreign_registration')
    t.equal(api.core.accepted.length, before)
  })
})

t.test('only a valid token of the project with the scope may send', async (t) => {
  const api = await startTestApi(t)
  const url = messagesOf(api)
  const body = { target: registrationIdOf(api), type: 'device', ttl: '1m' }
  const { serviceAccount } = await getProject(api.tenants, api.project)
  const claims = {
    issuer: api.auth.issuer,
    audience: api.auth.audience,
    project: api.project,
    clientId: serviceAccount.clientId,
    scopes: ['message:update', 'project:read'],
    tokenId: 'x',
    nowMs: api.clock.now(),
    lifetimeSeconds: 600,
  }
  const mint = async (changes: Partial<typeof claims>, ring = api.keyring) =>
    (await mintAccessToken(ring, { ...claims, ...changes })).token
  const [header = '', payload = '', signature = ''] = api.token.split('.')
  const none = Buffer.from(JSON.stringify({ alg: 'none', typ: 'at+jwt' })).toString('base64url')
  await createProject(api.tenants, { id: 'other', alg: 'ES256' })
  const { token: foreign } = await mintToken(api.tenants, api.keyring, api.auth, 'other')
  const enrolled = await enrolledToken(api)

  await t.test('any other token is refused with the code of the reason', async (t) => {
    const cases: [string, ErrorCode, string | null][] = [
      ['no token', 'missing_token', null],
      ['not a JWT', 'bad_token', 'x'],
      ['alg none', 'bad_token', `${none}.${payload}.`],
      ['a changed payload', 'bad_token', `${header}.${payload.slice(0, -2)}AA.${signature}`],
      ['signed by another service', 'bad_token', await mint({}, Keyring.generate(0))],
      ['another issuer', 'bad_token', await mint({ issuer: 'elsewhere' })],
      ['another audience', 'bad_token', await mint({ audience: 'elsewhere' })],
      ['a device token', 'bad_token', enrolled],
      ['expired', 'token_expired', await mint({ nowMs: claims.nowMs - 7_200_000 })],
      ['of another project', 'forbidden', foreign],
      ['of another client', 'forbidden', await mint({ clientId: 'client_of_somebody_else' })],
      ['without the scope', 'forbidden', await mint({ scopes: ['project:read'] })],
    ]
    for (const [name, code, token] of cases) {
      const answer = await ask(api, { url, body, token })
      isError(t, answer, code, name)
      if (answer.statusCode === 401) t.equal(answer.headers['www-authenticate'], 'Bearer', name)
    }
    isError(t, await ask(api, { url, body, token: null, headers: { authorization: 'Basic eDp5' } }), 'missing_token')
    isError(t, await ask(api, { url, body, token: null, headers: { authorization: 'Bearer ' } }), 'bad_token')
  })

  await t.test('a token of another project does not show whether a project exists', async (t) => {
    const absent = { url: `${API}/absent/messages`, body, token: await mint({ project: 'absent' }) }
    isError(t, await ask(api, absent), 'unknown_project')
    isError(t, await ask(api, { ...absent, token: api.token }), 'forbidden')
    t.same(api.core.accepted, [], 'no refused request was accepted')
  })

  await t.test('a valid token is accepted, also from the cache, until it expires', async (t) => {
    t.equal((await ask(api, { url, body })).statusCode, 202, 'the first request')
    t.equal((await ask(api, { url, body })).statusCode, 202, 'a second request')
    api.clock.skewMs = 3_700_000
    isError(t, await ask(api, { url, body }), 'token_expired', 'after its expiry')
  })
})

async function enrolledToken(api: TestApi): Promise<string> {
  const { enrolmentKey } = await createFleet(api.tenants)
  const answer = await ask(api, { url: '/device/v1/enrol', body: { enrolmentKey }, token: null })
  return answer.body.token
}

t.test(
  'a running core accepts tokens of a key from the reload that adds the key to the reload that removes it',
  async (t) => {
    const api = await startTestApi(t)
    const { kid: oldKid } = api.keyring.signingKey('accessToken')
    const file = api.keyring.copy()
    file.activate('accessToken', file.add('accessToken', api.clock.now()), api.clock.now())
    const { token } = await mintToken(api.tenants, file, api.auth, api.project)
    const show = (token: string) => ask(api, { url: `${API}/${api.project}`, token })
    isError(t, await show(token), 'bad_token', 'the new key, before the reload')
    t.equal((await show(api.token)).statusCode, 200, 'the old key, before the reload')
    api.keyring.use(file)
    t.equal((await show(token)).statusCode, 200, 'the new key, after the reload')
    t.equal((await show(api.token)).statusCode, 200, 'the old key, after the reload')
    file.retire('accessToken', oldKid)
    t.equal((await show(api.token)).statusCode, 200, 'the retired key, before the second reload')
    api.keyring.use(file)
    isError(t, await show(api.token), 'bad_token', 'the retired key, after the second reload')
    t.equal((await show(token)).statusCode, 200, 'the new key, after the second reload')
  },
)

t.test('a message to an invalid target is refused with the code of the reason', async (t) => {
  const api = await startTestApi(t)
  const send = (body: object) => ask(api, { url: messagesOf(api), body: { ttl: '1m', ...body } })
  const foreignApplication = await otherApplication(api)
  const cases: [string, ErrorCode, object][] = [
    ['a forged registration', 'unknown_registration', { type: 'device', target: 'AAAA' }],
    [
      'a registration of another project',
      'foreign_registration',
      { type: 'device', target: registrationIdOf(api, { project: 'other' }) },
    ],
    ['an unknown application', 'unknown_application', { type: 'application', target: 'app_aaaaaaaaaaaaaaaaaaaa' }],
    ['not an application id', 'unknown_application', { type: 'application', target: '../../etc' }],
    ['an application of another project', 'unknown_application', { type: 'application', target: foreignApplication }],
    ['a topic with a wildcard', 'invalid_request', { type: 'topic', target: 'news.>*' }],
    ['a user too long', 'invalid_request', { type: 'user', target: 'u'.repeat(129) }],
  ]
  for (const [name, code, body] of cases) isError(t, await send(body), code, name)
  t.same(api.core.accepted, [])

  await t.test('a registration of a revoked device is revoked_registration', async (t) => {
    const target = registrationIdOf(api)
    t.equal((await send({ type: 'device', target })).statusCode, 202)
    await revokeDevice(api.tenants, device)
    await until('the device is revoked', () => api.directory.isDeviceRevoked(device))
    isError(t, await send({ type: 'device', target }), 'revoked_registration')
  })

  await t.test('a suspended project can be read but cannot send', async (t) => {
    await setProjectActive(api.tenants, api.project, false)
    await until('the suspension is in effect', async () => !(await api.directory.project(api.project))?.isActive)
    isError(t, await send({ type: 'topic', target: 'news' }), 'project_inactive')
    const project = await ask(api, { url: `${API}/${api.project}` })
    t.equal(project.statusCode, 200)
    t.equal(project.body.isActive, false)
  })
})

async function otherApplication(api: TestApi): Promise<string> {
  await createProject(api.tenants, { id: 'other', alg: 'ES256' })
  return (await createApplication(api.tenants, 'other')).id
}

function deliveredStatus(project: string): MessageStatus {
  return {
    id: 77n,
    project,
    status: 'delivered',
    type: 'device',
    target: 'r',
    acceptedAtMs: 1_000,
    expiresAtMs: 61_000,
    notBeforeMs: null,
    counts: { accepted: 1, delivered: 1 },
    trace: [{ atMs: 1_500, step: 'delivered' }],
    waiting: [],
  }
}

t.test('the state of messages and of the project', async (t) => {
  const api = await startTestApi(t)
  const url = `${messagesOf(api)}/77`
  const status = deliveredStatus(api.project)
  t.beforeEach(() => api.core.statuses.clear())

  await t.test('the status of a message has times as text, and the reason why a target waits', async (t) => {
    api.core.statuses.set(77n, status)
    t.same((await ask(api, { url })).body, {
      id: '77',
      status: 'delivered',
      type: 'device',
      target: 'r',
      acceptedAt: '1970-01-01T00:00:01.000Z',
      expiredAt: '1970-01-01T00:01:01.000Z',
      counts: { accepted: 1, delivered: 1 },
      trace: [{ at: '1970-01-01T00:00:01.500Z', step: 'delivered' }],
    })
    const waiting = [{ target: 'r', why: 'offline' as const, sinceMs: 2_000 }]
    api.core.statuses.set(77n, { ...status, waiting })
    t.same((await ask(api, { url })).body.waiting, [{ target: 'r', why: 'offline', since: '1970-01-01T00:00:02.000Z' }])
  })

  await t.test('an unknown, foreign or malformed message id is unknown_message', async (t) => {
    isError(t, await ask(api, { url }), 'unknown_message')
    api.core.statuses.set(77n, { ...status, project: 'other' })
    isError(t, await ask(api, { url }), 'unknown_message', "another project's message")
    for (const id of ['0', '-1', 'x', '9223372036854775808', '1e3']) {
      isError(t, await ask(api, { url: `${messagesOf(api)}/${id}` }), 'unknown_message', id)
    }
  })

  await t.test('messages are listed in pages, newest first; invalid queries are refused', async (t) => {
    api.core.statuses.set(77n, status)
    api.core.statuses.set(78n, { ...status, id: 78n })
    const list = (query: string) => ask(api, { url: `${messagesOf(api)}${query}` })
    const page = await list('?limit=1')
    const listed = { type: 'device', acceptedAt: '1970-01-01T00:00:01.000Z', status: 'delivered' }
    t.same(page.body, { messages: [{ id: '78', ...listed }], next: '78' })
    t.same((await list('?before=78')).body, { messages: [{ id: '77', ...listed }], next: null })
    for (const query of ['?limit=0', '?limit=101', '?limit=x', '?limit=1&limit=2', '?before=0', '?before=x']) {
      isError(t, await list(query), 'invalid_request', query)
    }
  })

  await t.test('DELETE of a message answers cancelled, unknown_message or already_final', async (t) => {
    const cancel = () => ask(api, { method: 'DELETE', url })
    isError(t, await cancel(), 'unknown_message')
    api.core.cancel = async () => 'already_final'
    isError(t, await cancel(), 'already_final')
    api.core.cancel = async (project, id) => (project === api.project && id === 77n ? 'cancelled' : 'unknown')
    t.same((await cancel()).body, { id: '77', status: 'cancelled' })
  })

  await t.test('the project is answered with its service account and times', async (t) => {
    const project = await ask(api, { url: `${API}/${api.project}` })
    const stored = await api.tenants.projects.get(api.project)
    t.same(project.body, {
      id: api.project,
      name: api.project,
      isActive: true,
      serviceAccount: { clientId: stored?.serviceAccount.clientId },
      createdAt: new Date(stored?.createdAtMs ?? 0).toISOString(),
      updatedAt: new Date(stored?.updatedAtMs ?? 0).toISOString(),
    })
  })

  await t.test('counters are summed over applications and days', async (t) => {
    const counters = await ask(api, { url: `${API}/${api.project}/counters` })
    t.same(counters.body.total, { accepted: 4, delivered: 3, pending: 1 })
    t.equal(counters.body.applications.length, 2)
  })
})

t.test('an enrolment', async (t) => {
  const api = await startTestApi(t)
  const { enrolmentKey } = await createFleet(api.tenants)
  const enrol = (body: unknown) => ask(api, { url: '/device/v1/enrol', body, token: null })

  await t.test('with a key of a fleet answers a new device with its token and the URL of the transport', async (t) => {
    const answer = await enrol({ enrolmentKey, name: 'a phone' })
    t.equal(answer.statusCode, 201)
    t.equal(answer.headers['cache-control'], 'no-store')
    t.same(Object.keys(answer.body), ['deviceId', 'token', 'expiresAt', 'renewFrom', 'transportUrl'])
    t.equal(answer.body.transportUrl, api.auth.transportUrl)
    const verifier = new DeviceTokenVerifier(api.keyring.transportKeys().deviceTokens, api.auth.issuer)
    const verdict = verifier.verify(answer.body.token, api.clock.now())
    t.match(verdict, { ok: true, claims: { device: answer.body.deviceId } })
    t.not((await enrol({ enrolmentKey })).body.deviceId, answer.body.deviceId, 'each enrolment makes a new device')
  })

  await t.test('with another key is bad_enrolment_key', async (t) => {
    const wrong = `${enrolmentKey.slice(0, -1)}${enrolmentKey.endsWith('A') ? 'B' : 'A'}`
    for (const key of [wrong, 'bek_aaaaaaaaaaaa_', `bek_aaaaaaaaaaaa_${'A'.repeat(43)}`, '', 'x']) {
      isError(t, await enrol({ enrolmentKey: key }), 'bad_enrolment_key', key.slice(0, 8))
    }
  })

  await t.test('with an invalid body is invalid_request', async (t) => {
    for (const body of [
      {},
      [],
      null,
      'x',
      { enrolmentKey: 7 },
      { enrolmentKey: 'x'.repeat(200) },
      { enrolmentKey, name: 7 },
    ]) {
      isError(t, await enrol(body), 'invalid_request', JSON.stringify(body).slice(0, 30))
    }
  })
})

t.test('revoking a registration or device that never existed is refused', async (t) => {
  const api = await startTestApi(t)
  await t.rejects(revokeRegistration(api.tenants, device, 1), { code: 'unknown_registration' })
  await t.rejects(revokeRegistration(api.tenants, 'x', 1), { code: 'invalid_request' })
  await t.rejects(revokeDevice(api.tenants, 'x'), { code: 'invalid_request' })
})
