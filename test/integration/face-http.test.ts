import { once } from 'node:events'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { connect, type Socket } from 'node:net'
import { unpack } from 'msgpackr'
import t, { type Test } from 'tap'
import { type ErrorCode, Errors } from '../../protocol/errors.js'
import { encodeRegistrationId } from '../../src/core/registration-id.js'
import {
  createApplication,
  createFleet,
  createProject,
  getProject,
  mintToken,
  revokeDevice,
  revokeRegistration,
  setProjectActive,
} from '../../src/core/tenants/admin.js'
import { mintAccessToken } from '../../src/core/tenants/tokens.js'
import { DeviceTokenVerifier } from '../../src/device-token.js'
import { FabricError } from '../../src/fabric/fabric.js'
import { Keyring } from '../../src/keyring.js'
import { createLogger } from '../../src/observe/log.js'
import { startFace, type TestFace, until } from '../support/face.js'

const API = '/push/public/api/v1/projects'
const device = 'dev_0123456789abcdefghij'

/** Codes that were answered over HTTP in this file, for the last test. */
const seen = new Set<string>()

interface Answer {
  statusCode: number
  headers: Record<string, unknown>
  // biome-ignore lint/suspicious/noExplicitAny: bodies are compared, not trusted
  body: any
}

interface Ask {
  method?: 'GET' | 'POST' | 'PUT' | 'DELETE' | 'HEAD'
  url: string
  body?: unknown
  raw?: string | Buffer
  token?: string | null
  headers?: Record<string, string>
}

async function ask(face: TestFace, { method, url, body, raw, token = face.token, headers = {} }: Ask): Promise<Answer> {
  const payload = raw ?? (body === undefined ? undefined : JSON.stringify(body))
  const response = await face.gateway.app.inject({
    method: method ?? (payload === undefined ? 'GET' : 'POST'),
    url,
    headers: {
      ...(payload === undefined ? {} : { 'content-type': 'application/json' }),
      ...(token === null ? {} : { authorization: `Bearer ${token}` }),
      ...headers,
    },
    ...(payload === undefined ? {} : { payload }),
  })
  return {
    statusCode: response.statusCode,
    headers: response.headers,
    body: response.body && JSON.parse(response.body),
  }
}

function isError(t: Test, answer: Answer, code: ErrorCode, name: string = code): void {
  seen.add(code)
  t.equal(answer.statusCode, Errors[code].http, `${name}: status`)
  t.same(Object.keys(answer.body), ['error'], `${name}: nothing but an error`)
  t.same(Object.keys(answer.body.error), ['code', 'message', 'details'], `${name}: its shape`)
  t.equal(answer.body.error.code, code, name)
}

const registrationIdOf = (face: TestFace, fields: object = {}) =>
  encodeRegistrationId(face.keyring.macKey('registration'), {
    project: face.project,
    application: face.application,
    device,
    registration: 1,
    ...fields,
  })

const messagesOf = (face: TestFace) => `${API}/${face.project}/messages`

t.test('a message is accepted, and the core gets all of it', async (t) => {
  const face = await startFace(t)
  const target = registrationIdOf(face)
  const notification = { title: 'T', message: 'M', data: { mtype: 'notify' } }
  const body = { target, type: 'device', ttl: '5h30m', priority: 'high', collapseKey: 'k', notification, extra: 1 }
  const answer = await ask(face, { url: messagesOf(face), body })
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
  const [command] = face.core.accepted
  t.match(command, {
    project: face.project,
    type: 'device',
    targets: [{ application: face.application, device, registration: 1, registrationId: target }],
    group: null,
    ttlMs: 19_800_000,
    priority: 'high',
    collapseKey: 'k',
    title: 'T',
    message: 'M',
  })
  t.same(unpack(command?.data ?? Buffer.alloc(0)), { mtype: 'notify' })

  await t.test('with doubled slashes, and without a content type', async (t) => {
    const raw = JSON.stringify({ target, type: 'device', ttl: '0s' })
    const doubled = messagesOf(face).replace('/v1/', '/v1//')
    t.equal((await ask(face, { url: doubled, raw })).statusCode, 202)
    const { url } = await face.gateway.listen()
    const naive = await overSocket(url, 'POST', `/${doubled}`, [`authorization: Bearer ${face.token}`], raw)
    t.match(naive, /^HTTP\/1.1 202 /)
  })

  await t.test('groups', async (t) => {
    const groups: [string, string, object][] = [
      ['topic', 'news.local', { kind: 'topic', name: 'news.local' }],
      ['user', 'Anna Ö.', { kind: 'user', name: 'Anna Ö.' }],
      ['application', face.application, { kind: 'app', name: face.application }],
    ]
    for (const [type, name, group] of groups) {
      const answer = await ask(face, { url: messagesOf(face), body: { type, target: name, ttl: '1m' } })
      t.equal(answer.statusCode, 202, type)
      t.equal(answer.body.target, name)
      t.match(face.core.accepted.at(-1), { type, targets: [], group })
    }
  })

  await t.test('many devices: each once, and what cannot be sent to is told', async (t) => {
    const other = registrationIdOf(face, { registration: 2 })
    const foreign = registrationIdOf(face, { project: 'other' })
    const list = [target, other, target, foreign, 'forged']
    const answer = await ask(face, { url: messagesOf(face), body: { type: 'devices', target: list, ttl: '1m' } })
    t.equal(answer.statusCode, 202)
    t.same(answer.body.target, list)
    t.same(answer.body.rejected, [
      { target: foreign, code: 'foreign_registration' },
      { target: 'forged', code: 'unknown_registration' },
    ])
    t.same(
      face.core.accepted.at(-1)?.targets.map((one) => one.registrationId),
      [target, other],
    )
    const before = face.core.accepted.length
    const none = await ask(face, { url: messagesOf(face), body: { type: 'devices', target: [foreign], ttl: '1m' } })
    isError(t, none, 'foreign_registration')
    t.equal(face.core.accepted.length, before)
  })
})

t.test('who may ask', async (t) => {
  const face = await startFace(t)
  const url = messagesOf(face)
  const body = { target: registrationIdOf(face), type: 'device', ttl: '1m' }
  const { serviceAccount } = await getProject(face.tenants, face.project)
  const claims = {
    issuer: face.auth.issuer,
    audience: face.auth.audience,
    project: face.project,
    clientId: serviceAccount.clientId,
    scopes: ['message:update', 'project:read'],
    tokenId: 'x',
    nowMs: face.clock.now(),
    lifetimeSeconds: 600,
  }
  const mint = async (changes: Partial<typeof claims>, ring = face.keyring) =>
    (await mintAccessToken(ring, { ...claims, ...changes })).token
  const [header = '', payload = '', signature = ''] = face.token.split('.')
  const none = Buffer.from(JSON.stringify({ alg: 'none', typ: 'at+jwt' })).toString('base64url')
  await createProject(face.tenants, { id: 'other', alg: 'ES256' })
  const { token: foreign } = await mintToken(face.tenants, face.keyring, face.auth, 'other')
  const enrolled = await enrolledToken(face)

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
    const answer = await ask(face, { url, body, token })
    isError(t, answer, code, name)
    if (answer.statusCode === 401) t.equal(answer.headers['www-authenticate'], 'Bearer', name)
  }
  isError(t, await ask(face, { url, body, token: null, headers: { authorization: 'Basic eDp5' } }), 'missing_token')
  isError(t, await ask(face, { url, body, token: null, headers: { authorization: 'Bearer ' } }), 'bad_token')
  const absent = { url: `${API}/absent/messages`, body, token: await mint({ project: 'absent' }) }
  isError(t, await ask(face, absent), 'unknown_project')
  isError(t, await ask(face, { ...absent, token: face.token }), 'forbidden', 'which projects there are is not told')
  t.same(face.core.accepted, [], 'nothing was accepted')

  t.equal((await ask(face, { url, body })).statusCode, 202, 'a good token')
  t.equal((await ask(face, { url, body })).statusCode, 202, 'the same again, from memory')
  face.clock.skewMs = 3_700_000
  isError(t, await ask(face, { url, body }), 'token_expired', 'a remembered token expires as well')
})

async function enrolledToken(face: TestFace): Promise<string> {
  const { enrolmentKey } = await createFleet(face.tenants)
  const answer = await ask(face, { url: '/device/v1/enrol', body: { enrolmentKey }, token: null })
  return answer.body.token
}

t.test('a rotated key leaves no gap', async (t) => {
  const face = await startFace(t)
  face.keyring.rotate('accessToken', face.clock.now())
  const { token } = await mintToken(face.tenants, face.keyring, face.auth, face.project)
  isError(t, await ask(face, { url: `${API}/${face.project}`, token }), 'bad_token', 'a gateway that was not told')
  t.equal((await ask(face, { url: `${API}/${face.project}` })).statusCode, 200)
})

t.test('what is sent to', async (t) => {
  const face = await startFace(t)
  const send = (body: object) => ask(face, { url: messagesOf(face), body: { ttl: '1m', ...body } })
  const foreignApplication = await otherApplication(face)
  const cases: [string, ErrorCode, object][] = [
    ['a forged registration', 'unknown_registration', { type: 'device', target: 'AAAA' }],
    [
      'a registration of another project',
      'foreign_registration',
      { type: 'device', target: registrationIdOf(face, { project: 'other' }) },
    ],
    ['an unknown application', 'unknown_application', { type: 'application', target: 'app_aaaaaaaaaaaaaaaaaaaa' }],
    ['no application at all', 'unknown_application', { type: 'application', target: '../../etc' }],
    ['an application of another project', 'unknown_application', { type: 'application', target: foreignApplication }],
    ['a topic with a wildcard', 'invalid_request', { type: 'topic', target: 'news.>*' }],
    ['a user too long', 'invalid_request', { type: 'user', target: 'u'.repeat(129) }],
  ]
  for (const [name, code, body] of cases) isError(t, await send(body), code, name)
  t.same(face.core.accepted, [])

  await t.test('revoked registrations and devices', async (t) => {
    const target = registrationIdOf(face)
    t.equal((await send({ type: 'device', target })).statusCode, 202)
    await revokeDevice(face.tenants, device)
    await until('the device is revoked', () => face.directory.isDeviceRevoked(device))
    isError(t, await send({ type: 'device', target }), 'revoked_registration')
  })

  await t.test('a suspended project may look, and not send', async (t) => {
    await setProjectActive(face.tenants, face.project, false)
    await until('it is suspended', async () => !(await face.directory.project(face.project))?.isActive)
    isError(t, await send({ type: 'topic', target: 'news' }), 'project_inactive')
    const project = await ask(face, { url: `${API}/${face.project}` })
    t.equal(project.statusCode, 200)
    t.equal(project.body.isActive, false)
  })
})

async function otherApplication(face: TestFace): Promise<string> {
  await createProject(face.tenants, { id: 'other', alg: 'ES256' })
  return (await createApplication(face.tenants, 'other')).id
}

t.test('bodies, types and sizes', async (t) => {
  const face = await startFace(t, { http: { bodyBytesMax: 16_384 } })
  const url = messagesOf(face)
  const good = { target: registrationIdOf(face), type: 'device', ttl: '1m' }
  const cases: [string, ErrorCode, Partial<Ask>][] = [
    ['no body', 'malformed_json', { method: 'POST' }],
    ['no JSON', 'malformed_json', { raw: '{"target":' }],
    ['not UTF-8', 'malformed_json', { raw: Buffer.from([0x7b, 0xff, 0x7d]) }],
    ['a list', 'invalid_request', { body: [] }],
    ['a type that is none', 'invalid_request', { body: { ...good, type: 'all' } }],
    ['a title too long', 'invalid_request', { body: { ...good, notification: { title: 'x'.repeat(513) } } }],
    ['data too large', 'payload_too_large', { body: { ...good, notification: { data: { a: 'x'.repeat(4_096) } } } }],
    ['a body too large', 'payload_too_large', { body: { ...good, padding: 'x'.repeat(16_384) } }],
    ['text', 'unsupported_media_type', { body: good, headers: { 'content-type': 'text/plain' } }],
    [
      'another charset',
      'unsupported_media_type',
      { body: good, headers: { 'content-type': 'application/json; charset=utf-16' } },
    ],
    ['compressed', 'unsupported_media_type', { body: good, headers: { 'content-encoding': 'gzip' } }],
  ]
  for (const [name, code, request] of cases) {
    const answer = await ask(face, { url, ...request })
    isError(t, answer, code, name)
  }
  t.same(face.core.accepted, [])
  const padded = await ask(face, { url, body: { ...good, notification: { title: '🦌'.repeat(512) } } })
  t.equal(padded.statusCode, 202, 'characters are counted, not bytes')
  const json = await ask(face, {
    url,
    body: good,
    headers: { 'content-type': 'application/vnd.x+json; charset="UTF-8"' },
  })
  t.equal(json.statusCode, 202, 'a JSON type of another name')
})

t.test('paths and methods that are none', async (t) => {
  const face = await startFace(t)
  for (const url of [
    '/',
    '/push',
    `${API}`,
    `${messagesOf(face)}/1/2`,
    '/%ff',
    `${API}/${'p'.repeat(65)}`,
    '/device/v1',
  ]) {
    isError(t, await ask(face, { url }), 'not_found', url)
  }
  const wrong: [NonNullable<Ask['method']>, string, string][] = [
    ['PUT', messagesOf(face), 'POST'],
    ['GET', messagesOf(face), 'POST'],
    ['POST', `${messagesOf(face)}/1`, 'GET, DELETE'],
    ['DELETE', `${API}/${face.project}`, 'GET'],
    ['GET', '/device/v1/enrol', 'POST'],
    ['POST', '/healthz', 'GET'],
  ]
  for (const [method, url, allow] of wrong) {
    const answer = await ask(face, { method, url })
    isError(t, answer, 'method_not_allowed', `${method} ${url}`)
    t.equal(answer.headers.allow, allow)
  }
})

t.test('status, cancel, project and counters', async (t) => {
  const face = await startFace(t)
  const url = `${messagesOf(face)}/77`
  isError(t, await ask(face, { url }), 'unknown_message')
  const status = {
    id: 77n,
    project: face.project,
    status: 'delivered',
    type: 'device' as const,
    target: 'r',
    acceptedAtMs: 1_000,
    expiresAtMs: 61_000,
    counts: { accepted: 1, delivered: 1 },
    trace: [{ atMs: 1_500, step: 'delivered' }],
  }
  face.core.statuses.set(77n, status)
  t.same((await ask(face, { url })).body, {
    id: '77',
    status: 'delivered',
    type: 'device',
    target: 'r',
    acceptedAt: '1970-01-01T00:00:01.000Z',
    expiredAt: '1970-01-01T00:01:01.000Z',
    counts: { accepted: 1, delivered: 1 },
    trace: [{ at: '1970-01-01T00:00:01.500Z', step: 'delivered' }],
  })
  face.core.statuses.set(77n, { ...status, project: 'other' })
  isError(t, await ask(face, { url }), 'unknown_message', "another project's message")
  for (const id of ['0', '-1', 'x', '9223372036854775808', '1e3']) {
    isError(t, await ask(face, { url: `${messagesOf(face)}/${id}` }), 'unknown_message', id)
  }

  const cancel = () => ask(face, { method: 'DELETE', url })
  isError(t, await cancel(), 'unknown_message')
  face.core.cancel = async () => 'already_final'
  isError(t, await cancel(), 'already_final')
  face.core.cancel = async (project, id) => (project === face.project && id === 77n ? 'cancelled' : 'unknown')
  t.same((await cancel()).body, { id: '77', status: 'cancelled' })

  const project = await ask(face, { url: `${API}/${face.project}` })
  const stored = await face.tenants.projects.get(face.project)
  t.same(project.body, {
    id: face.project,
    name: face.project,
    isActive: true,
    serviceAccount: { clientId: stored?.serviceAccount.clientId },
    createdAt: new Date(stored?.createdAtMs ?? 0).toISOString(),
    updatedAt: new Date(stored?.updatedAtMs ?? 0).toISOString(),
  })
  const counters = await ask(face, { url: `${API}/${face.project}/counters` })
  t.same(counters.body.total, { accepted: 4, delivered: 3, pending: 1 })
  t.equal(counters.body.applications.length, 2)
})

t.test('enrolment', async (t) => {
  const face = await startFace(t)
  const { enrolmentKey } = await createFleet(face.tenants)
  const enrol = (body: unknown) => ask(face, { url: '/device/v1/enrol', body, token: null })
  const answer = await enrol({ enrolmentKey, name: 'a phone' })
  t.equal(answer.statusCode, 201)
  t.equal(answer.headers['cache-control'], 'no-store')
  t.same(Object.keys(answer.body), ['deviceId', 'token', 'expiresAt', 'transportUrl'])
  t.equal(answer.body.transportUrl, face.auth.transportUrl)
  const verifier = new DeviceTokenVerifier(face.keyring.transportKeys().deviceTokens, face.auth.issuer)
  const verdict = verifier.verify(answer.body.token, face.clock.now())
  t.match(verdict, { ok: true, claims: { device: answer.body.deviceId } })
  t.not((await enrol({ enrolmentKey })).body.deviceId, answer.body.deviceId)

  const wrong = `${enrolmentKey.slice(0, -1)}${enrolmentKey.endsWith('A') ? 'B' : 'A'}`
  for (const key of [wrong, 'bek_aaaaaaaaaaaa_', `bek_aaaaaaaaaaaa_${'A'.repeat(43)}`, '', 'x']) {
    isError(t, await enrol({ enrolmentKey: key }), 'bad_enrolment_key', key.slice(0, 8))
  }
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

t.test('faults of ours: a code for the caller, the cause for the log', async (t) => {
  const lines: string[] = []
  const log = createLogger(
    'test',
    { level: 'debug', format: 'json' },
    { write: (line: string) => void lines.push(line) },
  )
  const face = await startFace(t, { log })
  const send = () => ask(face, { url: messagesOf(face), body: { type: 'topic', target: 'news', ttl: '1m' } })
  face.core.accept = async () => {
    throw new Error('the hidden cause')
  }
  const answer = await send()
  isError(t, answer, 'internal')
  t.notMatch(JSON.stringify(answer.body), /hidden cause/)
  t.equal(lines.filter((line) => line.includes('the hidden cause')).length, 1, 'told once')

  for (const [fabricCode, code] of [
    ['full', 'storage_full'],
    ['timeout', 'unavailable'],
    ['disconnected', 'unavailable'],
    ['unavailable', 'unavailable'],
    ['no_responders', 'unavailable'],
    ['wrong_last_sequence', 'overloaded'],
  ] as const) {
    face.core.accept = async () => {
      throw new FabricError(fabricCode, 'no')
    }
    const refused = await send()
    isError(t, refused, code, fabricCode)
    t.equal(refused.headers['retry-after'], '1', `${fabricCode}: says when to come back`)
  }
})

t.test('NATS away: never a false 202, and ready again when it is back', async (t) => {
  const face = await startFace(t, { requestTimeoutMs: 500 })
  const store = face.fabric.log('BROADCAST')
  face.core.accept = async () => {
    await store.append('broadcast.acme.topic.x', Buffer.from('x'))
    return { id: 1n, acceptedAtMs: 0, expiresAtMs: 0 }
  }
  const send = () => ask(face, { url: messagesOf(face), body: { type: 'topic', target: 'news', ttl: '1m' } })
  const readiness = () => ask(face, { url: '/readyz', token: null })
  t.equal((await send()).statusCode, 202)
  t.same((await readiness()).body, { status: 'ready' })

  await face.nats.kill9()
  await until('the connection is seen to be gone', () => !face.fabric.connected())
  isError(t, await send(), 'unavailable')
  isError(t, await readiness(), 'unavailable')
  isError(
    t,
    await ask(face, {
      url: `${messagesOf(face)}`,
      body: { type: 'application', target: `app_${'z'.repeat(20)}`, ttl: '1m' },
    }),
    'unavailable',
    'what cannot be looked up is not unknown',
  )
  isError(
    t,
    await ask(face, {
      url: '/device/v1/enrol',
      body: { enrolmentKey: `bek_aaaaaaaaaaaa_${'A'.repeat(43)}` },
      token: null,
    }),
    'unavailable',
  )
  t.equal((await ask(face, { url: '/healthz', token: null })).statusCode, 200, 'alive all the while')

  await face.nats.start()
  await until('it is connected again', () => face.fabric.connected())
  t.equal((await readiness()).statusCode, 200)
  t.equal((await send()).statusCode, 202)
})

t.test('limits on connections, bodies and time, over real sockets', async (t) => {
  const http = { bodyBytesMax: 65_536, requestTimeoutMs: 400, headersTimeoutMs: 300, connectionsMax: 20 }
  const face = await startFace(t, { http })
  const { url, port } = await face.gateway.listen()
  const head = `POST ${messagesOf(face)} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${face.token}\r\ncontent-type: application/json\r\n`

  await t.test('10 MB', async (t) => {
    const answer = await overSocket(
      url,
      'POST',
      messagesOf(face),
      [`authorization: Bearer ${face.token}`],
      'x'.repeat(10_000_000),
    )
    t.match(answer, /^HTTP\/1.1 413 /)
    t.match(answer, /"payload_too_large"/)
  })
  await t.test('10 MB that nobody announced', async (t) => {
    const stream = connect(port, '127.0.0.1')
    const size = 10_000_000
    stream.write(`${head}connection: close\r\ntransfer-encoding: chunked\r\n\r\n${size.toString(16)}\r\n`)
    stream.write(`${'x'.repeat(size)}\r\n0\r\n\r\n`)
    t.match(await everything(stream), /^HTTP\/1.1 413 /)
  })
  await t.test('a body that never ends', async (t) => {
    const slow = connect(port, '127.0.0.1')
    slow.write(`${head}content-length: 100\r\n\r\n{`)
    const answer = await everything(slow)
    t.match(answer, /^HTTP\/1.1 408 /)
    t.match(answer, /"request_timeout"/)
    seen.add('request_timeout')
  })
  await t.test('headers that never end', async (t) => {
    const slow = connect(port, '127.0.0.1')
    slow.write('GET /healthz HTTP/1.1\r\nhost: x\r\n')
    t.match(await everything(slow), /^HTTP\/1.1 408 /)
  })
  await t.test('no HTTP at all', async (t) => {
    const stranger = connect(port, '127.0.0.1')
    stranger.write('\x16\x03\x01 hello\r\n\r\n')
    const answer = await everything(stranger)
    t.match(answer, /^HTTP\/1.1 400 /)
    t.match(answer, /"invalid_request"/)
  })
  await t.test('headers too large', async (t) => {
    const answer = await overSocket(url, 'GET', '/healthz', [`x: ${'y'.repeat(32_000)}`])
    t.match(answer, /^HTTP\/1.1 413 /)
  })
  await t.test('a method that node knows and we do not', async (t) => {
    t.match(await overSocket(url, 'TRACE', '/healthz', []), /^HTTP\/1.1 40[45] /)
  })
  await t.test('more connections than allowed are cut, and the rest lives on', async (t) => {
    const sockets = await Promise.all(Array.from({ length: 20 }, async () => connected(port)))
    const extra = connect(port, '127.0.0.1')
    t.equal(await everything(extra), '', 'closed without an answer')
    for (const socket of sockets) socket.destroy()
    await until('there is room again', async () => (await get(url)).statusCode === 200)
  })
})

t.test('more requests under way than allowed', async (t) => {
  const face = await startFace(t, { http: { inFlightMax: 2 } })
  let release = () => {}
  const held = new Promise<void>((resolve) => {
    release = resolve
  })
  let waiting = 0
  face.core.accept = async () => {
    waiting++
    await held
    return { id: 1n, acceptedAtMs: 0, expiresAtMs: 0 }
  }
  const send = () => ask(face, { url: messagesOf(face), body: { type: 'topic', target: 'news', ttl: '1m' } })
  const first = [send(), send()]
  await until('two are under way', () => waiting === 2)
  isError(t, await send(), 'overloaded')
  release()
  t.same(
    (await Promise.all(first)).map((answer) => answer.statusCode),
    [202, 202],
  )
  t.equal((await send()).statusCode, 202, 'there is room again')
})

t.test('revoking what never was', async (t) => {
  const face = await startFace(t)
  await t.rejects(revokeRegistration(face.tenants, device, 1), { code: 'unknown_registration' })
  await t.rejects(revokeRegistration(face.tenants, 'x', 1), { code: 'invalid_request' })
  await t.rejects(revokeDevice(face.tenants, 'x'), { code: 'invalid_request' })
})

t.test('every code of the registry that HTTP answers was seen, or is seen elsewhere', async (t) => {
  // Codes of device requests, which share the registry; and one whose time comes with the rate limits.
  const elsewhere = ['bad_user_token', 'too_many_registrations', 'too_many_topics', 'rate_limited']
  const missing = Object.keys(Errors).filter((code) => !seen.has(code) && !elsewhere.includes(code))
  t.same(missing, [])
})

function get(url: string): Promise<IncomingMessage> {
  return new Promise((resolve) => {
    const request = httpRequest(`${url}/healthz`, { agent: false }, (response) => {
      response.resume()
      resolve(response)
    })
    request.on('error', () => resolve({ statusCode: 0 } as IncomingMessage))
    request.end()
  })
}

async function connected(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => socket.destroy())
  await once(socket, 'connect')
  return socket
}

/** A request by hand, so that nothing is tidied up on the way; the whole answer. */
async function overSocket(url: string, method: string, path: string, headers: string[], body = ''): Promise<string> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  const lines = [`${method} ${path} HTTP/1.1`, 'host: x', 'connection: close', ...headers]
  if (body) lines.push('content-type: application/json', `content-length: ${Buffer.byteLength(body)}`)
  socket.write(`${lines.join('\r\n')}\r\n\r\n${body}`)
  return everything(socket)
}

async function everything(socket: Socket): Promise<string> {
  let text = ''
  socket.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk
  })
  // A server that has answered may reset what it does not read.
  socket.on('error', () => socket.destroy())
  await new Promise((resolve) => socket.once('close', resolve))
  return text
}
