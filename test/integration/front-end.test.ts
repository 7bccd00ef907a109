import { once } from 'node:events'
import { createServer } from 'node:net'
import t, { type Test } from 'tap'
import { Value } from 'typebox/value'
import { decodeStoredMessage } from '../../protocol/envelope.js'
import { MessageIdSource, partitionOf } from '../../protocol/message-id.js'
import {
  INGRESS_STREAM,
  ingressSubject,
  messageSubject,
  messagesStream,
  streamIndexOf,
} from '../../protocol/subjects.js'
import { systemClock } from '../../src/clock.js'
import { HttpSettings, LimitSettings } from '../../src/core/api/settings.js'
import { createAccept } from '../../src/core/delivery/accept/accept.js'
import { Room } from '../../src/core/delivery/room/room.js'
import { DeviceLimits, MessageLimits } from '../../src/core/domain/limits.js'
import { encodeRegistrationId } from '../../src/core/domain/registration-id.js'
import { type FrontEnd, type FrontEndOptions, startFrontEnd } from '../../src/core/front-end.js'
import { IngressSettings } from '../../src/core/ingress/settings.js'
import { CoreMetrics } from '../../src/core/metrics.js'
import { WebhookSettings } from '../../src/core/outcomes/webhooks/settings.js'
import { AuthSettings } from '../../src/core/tenants/auth/settings.js'
import { createApplication, createProject, mintToken, openTenants } from '../../src/core/tenants/projects.js'
import { Keyring } from '../../src/keyring.js'
import type { Broker } from '../../src/nats/broker.js'
import { silentLogger } from '../../src/observe/log.js'
import { EventLog } from '../../src/store/events.js'
import { ScheduleLog } from '../../src/store/schedule.js'
import { until } from '../support/api.js'
import { PUBLISHER_PROJECT, startNats, type TestNats } from '../support/nats.js'

const device = 'dev_0123456789abcdefghij'

interface Setup {
  nats: TestNats
  broker: Broker
  frontEnd: FrontEnd
  options: FrontEndOptions
  target: string
  token: string
  send(): Promise<{ status: number; id: string }>
  /** The number of stored messages of the device. */
  stored(): Promise<number>
  messageOf(id: string): Promise<ReturnType<typeof decodeStoredMessage> | null>
}

/** The front end with the accept step of production. No core routes, so stored messages stay in MESSAGES. */
async function setUp(t: Test): Promise<Setup> {
  const nats = await startNats(t, { nats: { requestTimeoutMs: 500 } })
  const broker = await nats.brokerAs('core')
  const keyring = Keyring.generate(systemClock.now())
  const tenants = openTenants(await nats.brokerAs('admin'), systemClock)
  await createProject(tenants, { id: PUBLISHER_PROJECT, alg: 'ES256' })
  const { id: application } = await createApplication(tenants, PUBLISHER_PROJECT)
  const auth = Value.Default(AuthSettings, {}) as AuthSettings
  const { token } = await mintToken(tenants, keyring, auth, PUBLISHER_PROJECT)
  const { split } = nats.store
  const events = new EventLog(broker, split, 'test')
  const ids = new MessageIdSource(0, () => systemClock.now())
  const schedule = new ScheduleLog(broker, 1_000)
  const room = new Room({ broker, clock: systemClock, split, log: silentLogger })
  const options: FrontEndOptions = {
    broker,
    keyring,
    split,
    accept: createAccept({ broker, clock: systemClock, split, events, schedule, ids, room }),
    readStatus: async () => null,
    cancel: async () => 'unknown',
    readCounters: async () => [],
    listMessages: async () => [],
    gateway: true,
    node: 0,
    leaseMs: 3_000,
    settings: {
      limits: Value.Default(LimitSettings, {}) as LimitSettings,
      http: { ...(Value.Default(HttpSettings, {}) as HttpSettings), port: 0 },
      auth,
      adminApi: { host: '127.0.0.1', port: 0, requestsPerSecond: 20, changesPerDay: 0 },
      messages: Value.Default(MessageLimits, {}) as MessageLimits,
      webhooks: Value.Default(WebhookSettings, {}) as WebhookSettings,
      devices: Value.Default(DeviceLimits, {}) as DeviceLimits,
      ingress: { ...(Value.Default(IngressSettings, {}) as IngressSettings), retryMs: 50 },
    },
    clock: systemClock,
    random: Math.random,
    log: silentLogger,
    metrics: new CoreMetrics(),
  }
  const frontEnd = await startFrontEnd(options)
  t.teardown(() => frontEnd.stop())
  const target = encodeRegistrationId(keyring.macKey('registration'), {
    project: PUBLISHER_PROJECT,
    application,
    device,
    registration: 1,
  })
  const log = broker.log(messagesStream(streamIndexOf(partitionOf(device), split)))
  const url = `${frontEnd.url}/push/public/api/v1/projects/${PUBLISHER_PROJECT}/messages`
  return {
    nats,
    broker,
    frontEnd,
    options,
    target,
    token,
    send: async () => {
      const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
      const body = JSON.stringify({ target, type: 'device', ttl: '1h', notification: { title: 'T' } })
      const response = await fetch(url, { method: 'POST', headers, body })
      const answer = (await response.json()) as { id?: string }
      return { status: response.status, id: answer.id ?? '' }
    },
    stored: async () => (await log.state()).messages,
    messageOf: async (id) => {
      const record = await log.last(messageSubject(device, BigInt(id)))
      return record && decodeStoredMessage(record.body)
    },
  }
}

t.test('a core whose nats-server is killed while 50 messages are in flight', async (t) => {
  const { nats, broker, frontEnd, send, stored, messageOf, target } = await setUp(t)
  t.ok(target)
  const first = await send()

  await t.test('stores a message before it answers 202, and is ready, before the kill', async (t) => {
    t.equal(first.status, 202)
    t.match(await messageOf(first.id), { id: BigInt(first.id), project: PUBLISHER_PROJECT, device, registration: 1 })
    t.equal((await fetch(`${frontEnd.url}/readyz`)).status, 200)
  })

  const inFlight = Promise.all(Array.from({ length: 50 }, send))
  await nats.kill9()
  const answers = await inFlight

  await t.test('answers each of them with 202 or 503', async (t) => {
    t.same(
      answers.filter(({ status }) => status !== 202 && status !== 503),
      [],
    )
  })

  await t.test('answers 503 and is not ready without the store', async (t) => {
    await until('the core has noticed the lost connection', () => !broker.connected())
    t.equal((await send()).status, 503)
    t.equal((await fetch(`${frontEnd.url}/readyz`)).status, 503)
  })

  await t.test('has stored each message that it answered with 202, and accepts messages again', async (t) => {
    await nats.start()
    await until('the core is connected again', () => broker.connected())
    const accepted = [first, ...answers.filter(({ status }) => status === 202)]
    for (const { id } of accepted) t.ok(await messageOf(id), `${id} is stored`)
    t.ok((await stored()) >= accepted.length)
    t.equal((await send()).status, 202)
  })
})

t.test('requests with one idempotency key at two cores', async (t) => {
  const { frontEnd, options, target, token, stored } = await setUp(t)
  const other = await startFrontEnd(options)
  t.teardown(() => other.stop())
  const post = async (url: string | null, key: string, title: string) => {
    const response = await fetch(`${url}/push/public/api/v1/projects/${PUBLISHER_PROJECT}/messages`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'idempotency-key': key, 'content-type': 'application/json' },
      body: JSON.stringify({ target, type: 'device', ttl: '1h', notification: { title } }),
    })
    return { status: response.status, body: (await response.json()) as Record<string, unknown> }
  }
  await t.test('get the answer of the first, and make one message', async (t) => {
    const first = await post(frontEnd.url, 'k1', 'a')
    t.equal(first.status, 202)
    for (const { url } of [frontEnd, other, frontEnd]) t.same(await post(url, 'k1', 'a'), first)
    t.equal(await stored(), 1)
  })

  await t.test('with another content are idempotency_conflict', async (t) => {
    t.match(await post(other.url, 'k1', 'b'), { status: 422, body: { error: { code: 'idempotency_conflict' } } })
  })

  await t.test('make one message if four arrive at once', async (t) => {
    const atOnce = await Promise.all([frontEnd, other, frontEnd, other].map(({ url }) => post(url, 'k2', 'c')))
    t.equal(new Set(atOnce.map(({ body }) => body.id)).size, 1)
    t.equal(await stored(), 2)
  })
})

t.test('a NATS message that is delivered again after a fault is stored once', async (t) => {
  const { nats, options, frontEnd, stored, target } = await setUp(t)
  await frontEnd.stop()
  const publisher = await nats.brokerAs('publisher')
  let calls = 0
  const second = await startFrontEnd({
    ...options,
    accept: async (command) => {
      const accepted = await options.accept(command)
      // The message is stored, but this core fails before it acknowledges the record of INGRESS.
      if (++calls === 1) throw new Error('a fault after the store')
      return accepted
    },
  })
  t.teardown(() => second.stop())
  const body = JSON.stringify({ target, type: 'device', ttl: '1h' })
  await publisher.log(INGRESS_STREAM).append(ingressSubject(PUBLISHER_PROJECT), Buffer.from(body))
  await until('the record was delivered twice', () => calls === 2)
  const admin = await nats.brokerAs('admin')
  await until('the record is acknowledged', async () => (await admin.log(INGRESS_STREAM).state()).messages === 0)
  t.equal(await stored(), 1)
})

t.test('after a start failed because its port is in use, another start succeeds and can be stopped', async (t) => {
  const { options, frontEnd } = await setUp(t)
  await frontEnd.stop()
  const taken = createServer().listen(0, '127.0.0.1')
  await once(taken, 'listening')
  t.teardown(() => taken.close())
  const address = taken.address()
  const port = typeof address === 'object' && address ? address.port : 0
  const settings = { ...options.settings, http: { ...options.settings.http, port } }
  await t.rejects(startFrontEnd({ ...options, settings }), { code: 'EADDRINUSE' })
  const second = await startFrontEnd(options)
  t.equal((await fetch(`${second.url}/healthz`)).status, 200)
  await second.stop()
  await t.rejects(fetch(`${second.url}/healthz`), 'after stop() it does not listen')
})
