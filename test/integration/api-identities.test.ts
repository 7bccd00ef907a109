/** Enrolment keys, renewal of tokens, cut-off fleets and ends of registrations, on a real nats-server with two cores. */
import t from 'tap'
import { type DeviceRequest, encodeDeviceRequest } from '../../protocol/envelope.js'
import { Bucket } from '../../protocol/subjects.js'
import {
  addEnrolmentKey,
  createFleet,
  cutOffFleet,
  getFleet,
  resetDevice,
  retireEnrolmentKey,
  revokeDevice,
} from '../../src/core/tenants/projects.js'
import { RevokedSweep } from '../../src/core/tenants/revoked-sweep.js'
import { DeviceTokenVerifier } from '../../src/device-token.js'
import { DeviceStore } from '../../src/store/devices.js'
import { revokeDevice as markRevoked } from '../../src/store/revoked.js'
import { SessionTable } from '../../src/store/sessions.js'
import { enrolmentKeysOf } from '../../src/store/tenants.js'
import { startTestApi, type TestApi, until } from '../support/api.js'
import { ask, device, isError } from '../support/http.js'

const DAY_MS = 86_400_000
const enrol = (api: TestApi, enrolmentKey: string) =>
  ask(api, { url: '/device/v1/enrol', body: { enrolmentKey }, token: null })
const renew = (api: TestApi, token: string | null) => ask(api, { method: 'POST', url: '/device/v1/renew', token })
const claimsOf = (api: TestApi, token: string) => {
  const verdict = new DeviceTokenVerifier(api.keyring.transportKeys().deviceTokens, api.auth.issuer).verify(token, 0)
  if (!verdict.ok) throw new Error(verdict.reason)
  return verdict.claims
}

t.test('a device that renews its token', async (t) => {
  const api = await startTestApi(t)
  const { enrolmentKey } = await createFleet(api.tenants)
  const first = (await enrol(api, enrolmentKey)).body
  await t.test('is told to renew it in the last quarter of its life', async (t) => {
    const lifeMs = Date.parse(first.expiresAt) - api.clock.now()
    const renewalMs = Date.parse(first.expiresAt) - Date.parse(first.renewFrom)
    t.ok(Math.abs(renewalMs - lifeMs / 4) < 60_000)
  })

  const answer = await renew(api, first.token)
  await t.test('gets another token as the same device of the same fleet, also after a lost answer', async (t) => {
    t.equal(answer.statusCode, 200)
    t.equal(answer.headers['cache-control'], 'no-store')
    t.equal(answer.body.deviceId, first.deviceId)
    t.not(answer.body.token, first.token)
    const repeated = await renew(api, first.token)
    t.equal(repeated.statusCode, 200, 'the older token is accepted again')
    const before = claimsOf(api, first.token)
    for (const { body } of [answer, repeated]) {
      t.ok(claimsOf(api, body.token).issuedAtMs > before.issuedAtMs)
      t.equal(claimsOf(api, body.token).fleet, before.fleet)
    }
  })

  await t.test('is refused without a device token', async (t) => {
    isError(t, await renew(api, null), 'missing_token')
    isError(t, await renew(api, 'x.y.z'), 'bad_token')
    isError(t, await renew(api, api.token), 'bad_token', 'an access token')
  })

  await t.test('gets a newer token also from a core whose clock is an hour behind', async (t) => {
    const other = await api.another()
    other.clock.skewMs = -3_600_000
    const late = await renew(other, answer.body.token)
    other.clock.skewMs = 0
    t.ok(claimsOf(api, late.body.token).issuedAtMs > claimsOf(api, answer.body.token).issuedAtMs)
  })

  await t.test('can do so within the grace after the expiry of the token, and not later', async (t) => {
    api.clock.skewMs = (365 + 89) * DAY_MS
    t.equal((await renew(api, first.token)).statusCode, 200)
    api.clock.skewMs = (365 + 91) * DAY_MS
    isError(t, await renew(api, first.token), 'token_expired')
    api.clock.skewMs = 0
  })

  await t.test('is refused as forbidden after it was revoked, also with an expired token', async (t) => {
    await revokeDevice(api.tenants, first.deviceId)
    await until('the core knows', () => api.directory.isDeviceRevoked(first.deviceId))
    isError(t, await renew(api, first.token), 'forbidden')
    api.clock.skewMs = 400 * DAY_MS
    isError(t, await renew(api, first.token), 'forbidden')
    api.clock.skewMs = 0
  })
})

t.test('after a fleet is cut off, older tokens are not renewed, and its devices can enrol again', async (t) => {
  const api = await startTestApi(t)
  const { fleet, enrolmentKey } = await createFleet(api.tenants)
  const { body } = await enrol(api, enrolmentKey)
  const fromMs = await cutOffFleet(api.tenants, fleet.id)
  await until('the core knows', () => api.directory.isCutOff(fleet.id, fromMs - 1))
  isError(t, await renew(api, body.token), 'bad_token')
  api.clock.skewMs = 5_000
  const next = await enrol(api, enrolmentKey)
  t.equal((await renew(api, next.body.token)).statusCode, 200)
  await t.rejects(cutOffFleet(api.tenants, 'fleet_000000000000'), { code: 'not_found' })
})

t.test('of 60 enrolments at once at two cores, with a key for 25 uses, 25 are accepted', async (t) => {
  const api = await startTestApi(t)
  const other = await api.another()
  const { fleet } = await createFleet(api.tenants)
  const { enrolmentKey, key } = await addEnrolmentKey(api.tenants, fleet.id, { usesMax: 25 })
  for (const { directory } of [api, other]) {
    await until('the core knows the key', async () =>
      enrolmentKeysOf((await directory.fleet(fleet.id)) ?? fleet).some(({ id }) => id === key.id),
    )
  }
  const answers = await Promise.all(
    Array.from({ length: 60 }, (_, index) => enrol(index % 2 === 0 ? api : other, enrolmentKey)),
  )
  const granted = answers.filter(({ statusCode }) => statusCode === 201)
  t.equal(granted.length, 25)
  t.equal(new Set(granted.map(({ body }) => body.deviceId)).size, 25)
  for (const refused of answers.filter(({ statusCode }) => statusCode !== 201)) isError(t, refused, 'bad_enrolment_key')
  const stored = enrolmentKeysOf(await getFleet(api.tenants, fleet.id)).find(({ id }) => id === key.id)
  t.match(stored, { uses: 25, usesMax: 25 })
})

t.test(
  'an enrolment key that is retired while devices enrol counts each accepted enrolment, and is refused then',
  async (t) => {
    const api = await startTestApi(t)
    const { fleet, enrolmentKey } = await createFleet(api.tenants)
    const [first] = enrolmentKeysOf(fleet)
    t.equal((await enrol(api, enrolmentKey)).statusCode, 201)
    const [retired, ...answers] = await Promise.all([
      retireEnrolmentKey(api.tenants, fleet.id, first?.id ?? ''),
      ...Array.from({ length: 20 }, () => enrol(api, enrolmentKey)),
    ])
    t.type(retired.retiredAtMs, 'number')
    const granted = answers.filter(({ statusCode }) => statusCode === 201).length
    isError(t, await enrol(api, enrolmentKey), 'bad_enrolment_key', 'although this core may not have learnt of it yet')
    const [stored] = enrolmentKeysOf(await getFleet(api.tenants, fleet.id))
    t.equal(stored?.uses, granted + 1)
  },
)

t.test('an enrolment key with an end is refused after it', async (t) => {
  const api = await startTestApi(t)
  const { fleet } = await createFleet(api.tenants)
  const ending = await addEnrolmentKey(api.tenants, fleet.id, { untilMs: api.clock.now() + 60_000 })
  await until('the core knows the key', async () => (await enrol(api, ending.enrolmentKey)).statusCode === 201)
  api.clock.skewMs = 61_000
  isError(t, await enrol(api, ending.enrolmentKey), 'bad_enrolment_key')
})

t.test('an enrolment key without uses, with a past end or to retire an unknown one is refused', async (t) => {
  const api = await startTestApi(t)
  const { fleet } = await createFleet(api.tenants)
  await t.rejects(addEnrolmentKey(api.tenants, fleet.id, { usesMax: 0 }), { code: 'invalid_request' })
  await t.rejects(addEnrolmentKey(api.tenants, fleet.id, { untilMs: 1 }), { code: 'invalid_request' })
  await t.rejects(retireEnrolmentKey(api.tenants, fleet.id, 'ek_000000000000'), { code: 'not_found' })
})

t.test('an enrolment key of release 0.1 is accepted and counted, and can be retired', async (t) => {
  const api = await startTestApi(t)
  const { fleet, enrolmentKey } = await createFleet(api.tenants)
  await api.tenants.fleets.update(fleet.id, ({ keys: _, ...old }) => old)
  await until('the core has the old record', async () => (await api.directory.fleet(fleet.id))?.keys === undefined)
  t.equal((await enrol(api, enrolmentKey)).statusCode, 201)
  const [key] = enrolmentKeysOf(await getFleet(api.tenants, fleet.id))
  t.equal(key?.uses, 1)
  await retireEnrolmentKey(api.tenants, fleet.id, key?.id ?? '')
  isError(t, await enrol(api, enrolmentKey), 'bad_enrolment_key')
  t.same((await getFleet(api.tenants, fleet.id)).keyHashes, [], 'a core of release 0.1 refuses it too')
})

t.test('enrolments with one key beyond its rate get 429, and with another key 201', async (t) => {
  const api = await startTestApi(t, { limits: { enrolmentsPerKeyPerSecond: 1, burstSeconds: 3 } })
  const { enrolmentKey } = await createFleet(api.tenants)
  const { enrolmentKey: other } = await createFleet(api.tenants)
  const statuses = await Promise.all(
    Array.from({ length: 10 }, async () => (await enrol(api, enrolmentKey)).statusCode),
  )
  t.equal(statuses.filter((status) => status === 429).length > 0, true)
  t.equal((await enrol(api, other)).statusCode, 201)
})

t.test('enrolments of one address beyond its rate get 429, also with wrong keys', async (t) => {
  const strict = await startTestApi(t, { limits: { enrolmentsPerSecond: 1, burstSeconds: 3 } })
  const guesses = await Promise.all(Array.from({ length: 10 }, () => enrol(strict, 'bek_aaaaaaaaaaaa_x')))
  t.ok(guesses.some(({ statusCode }) => statusCode === 429))
})

t.test('a device that registers and unregisters again and again', async (t) => {
  const api = await startTestApi(t, { devices: { registrationsPerDay: 20 } })
  const handle = (request: DeviceRequest) => api.devices.handle(encodeDeviceRequest(request))
  const register = () => handle({ kind: 'register', device, application: api.application, userToken: '' })
  await t.test('is rate_limited after registrationsPerDay, until the next day', async (t) => {
    for (let number = 1; number <= 20; number++) {
      t.match(await register(), { ok: true, registration: number })
      t.match(await handle({ kind: 'unregister', device, registration: number }), { ok: true })
      t.equal(api.directory.isRegistrationRevoked(device, number), true, `${number} is refused to senders at once`)
    }
    t.match(await register(), { ok: false, code: 'rate_limited' })
    api.clock.skewMs = DAY_MS
    t.match(await register(), { ok: true, registration: 21 }, 'the next day')
  })

  await t.test('adds nothing to REVOKED', async (t) => {
    t.equal((await api.broker.log(`KV_${Bucket.REVOKED}`).state()).messages, 0, 'the device record has the ends')
  })

  await t.test('ends a registration for senders at another core too', async (t) => {
    const other = await api.another()
    t.match(await handle({ kind: 'unregister', device, registration: 21 }), { ok: true })
    await until('another core has it', () => other.directory.isRegistrationRevoked(device, 21))
  })
})

t.test('the sweep of REVOKED removes past revocations and entries of release 0.1, and keeps valid ones', async (t) => {
  const api = await startTestApi(t)
  const table = api.broker.table(Bucket.REVOKED)
  const devices = new DeviceStore(api.broker.table(Bucket.DEVICES))
  const nowMs = api.clock.now()
  const added = { project: 'p', application: 'a', user: '', channel: 'native', createdAtMs: 1, since: 0 } as const
  await devices.update(device, (before) => ({
    ...before,
    ...{ version: 1, nextNumber: 2, registrations: [{ ...added, number: 1, addedVersion: 1 }] },
  }))
  await markRevoked(table, device, nowMs - 2_000, nowMs - 1_000)
  await markRevoked(table, 'dev_zzzzzzzzzzzzzzzzzzzz', nowMs, nowMs + DAY_MS)
  for (let n = 1; n <= 30; n++) await table.put(`registration.${device}.${n}`, Buffer.from('{}'))
  const sweep = new RevokedSweep({ broker: api.broker, clock: api.clock, random: () => 0, log: api.log })
  t.equal(await sweep.round(), 31, 'one device and the 30 entries of release 0.1')
  t.equal(await sweep.round(), 1, 'the mark that the device was deleted')
  t.equal(await sweep.round(), 0, 'no more')
  t.equal((await api.broker.log(`KV_${Bucket.REVOKED}`).state()).messages, 1, 'the revocation that is still valid')
  t.match(await devices.read(device, { authoritative: true }), { registrations: [], nextNumber: 2 })
})

t.test('after a reset of a device a low connection number is accepted', async (t) => {
  const api = await startTestApi(t)
  const sessions = new SessionTable(api.broker.table(Bucket.SESSIONS), api.clock)
  const owner = { instance: 'i', worker: 'w' }
  await sessions.claim(device, { ...owner, connection: 2 ** 48 })
  t.match(await sessions.claim(device, { ...owner, connection: 7 }), { ok: false, reason: 'stale_connection' })
  await resetDevice(api.tenants, device)
  t.match(await sessions.claim(device, { ...owner, connection: 7 }), { ok: true })
  await t.rejects(resetDevice(api.tenants, 'x'), { code: 'invalid_request' })
})
