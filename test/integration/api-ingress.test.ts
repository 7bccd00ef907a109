import { Packr } from 'msgpackr'
import t, { type Test } from 'tap'
import { Value } from 'typebox/value'
import { DEAD_LETTERS_STREAM, INGRESS_STREAM, ingressSubject } from '../../protocol/subjects.js'
import type { AcceptCommand } from '../../src/core/domain/commands.js'
import { encodeRegistrationId } from '../../src/core/domain/registration-id.js'
import { Ingress } from '../../src/core/ingress/ingress.js'
import { IngressSettings } from '../../src/core/ingress/settings.js'
import { setProjectActive } from '../../src/core/tenants/projects.js'
import { type Broker, BrokerError, type LogRecord } from '../../src/nats/broker.js'
import { untilReconnected } from '../contract/reconnected.js'
import { startTestApi, type TestApi, until } from '../support/api.js'
import { loseRecords } from '../support/nats.js'

const packr = new Packr({ useRecords: false })
const device = 'dev_0123456789abcdefghij'

interface Setup {
  api: TestApi
  publisher: Broker
  dead(): Promise<LogRecord[]>
  left(): Promise<number>
  publish(body: Uint8Array | string, contentType?: string): Promise<number>
  registrationId: string
}

async function setUp(t: Test): Promise<Setup> {
  const api = await startTestApi(t)
  const publisher = await api.nats.brokerAs('publisher')
  const ingress = new Ingress({
    broker: api.broker,
    directory: api.directory,
    registrationKeys: api.registrationKeys,
    accept: (command) => api.core.accept(command),
    settings: { ...(Value.Default(IngressSettings, {}) as IngressSettings), retryMs: 20, ackWaitMs: 1_000 },
    messages: api.messages,
    bodyBytesMax: 16_384,
    log: api.log,
  })
  await ingress.start()
  t.teardown(() => ingress.stop())
  const admin = await api.nats.brokerAs('admin')
  const address = { project: api.project, application: api.application, device, registration: 1 }
  return {
    api,
    publisher,
    dead: () => recordsOf(admin, DEAD_LETTERS_STREAM),
    left: async () => (await admin.log(INGRESS_STREAM).state()).messages,
    publish: (body, contentType) => {
      const headers = contentType === undefined ? {} : { headers: { 'Content-Type': contentType } }
      return publisher.log(INGRESS_STREAM).append(ingressSubject(api.project), Buffer.from(body), headers)
    },
    registrationId: encodeRegistrationId(api.keyring.macKey('registration'), address),
  }
}

async function recordsOf(broker: Broker, stream: string): Promise<LogRecord[]> {
  const log = broker.log(stream)
  const { firstSequence, lastSequence } = await log.state()
  const records: LogRecord[] = []
  // Both are 0 for an empty stream.
  for (let sequence = Math.max(1, firstSequence); sequence <= lastSequence; sequence++) {
    const record = await log.at(sequence)
    if (record) records.push(record)
  }
  return records
}

t.test('a message in JSON and one in msgpack become the same command', async (t) => {
  const { api, publish, left, dead, registrationId } = await setUp(t)
  const message = {
    target: registrationId,
    type: 'device',
    ttl: '1h',
    notification: { title: 'T', message: 'M', data: { n: 1, nested: { list: [1, 'ü', null] } } },
  }
  await publish(JSON.stringify(message))
  await publish(JSON.stringify(message), 'application/json; charset=utf-8')
  await publish(packr.pack(message), 'application/msgpack')
  await until('all are accepted', () => api.core.accepted.length === 3)
  await until('all are acknowledged', async () => (await left()) === 0)
  const [first, ...others] = api.core.accepted
  const { position, ...command } = first as AcceptCommand
  t.match(command, { project: api.project, type: 'device', title: 'T', ttlMs: 3_600_000 })
  t.match(position, { isRepeat: false })
  for (const { position: otherPosition, ...otherCommand } of others) {
    t.same(otherCommand, command)
    t.not(otherPosition?.sequence, position?.sequence, 'each record has a position of its own')
  }
  t.same(await dead(), [])
})

t.test('a message of each type, scheduled or not, counts as accepted at the time of its PubAck', async (t) => {
  const { api, publish, left, registrationId } = await setUp(t)
  const user = { target: 'ann', type: 'user' }
  const messages: { target: unknown; type: string; notBefore?: string }[] = [
    { target: registrationId, type: 'device' },
    { target: [registrationId], type: 'devices' },
    { target: 'news', type: 'topic' },
    { target: api.application, type: 'application' },
    user,
    { ...user, notBefore: new Date(Date.now() + 60_000).toISOString() },
  ]
  const admin = await api.nats.brokerAs('admin')
  const accept = api.core.accept
  let areAllStored = false
  api.core.accept = async (command) => {
    // No message is accepted before all of them have their PubAck.
    if (!areAllStored) throw new BrokerError('unavailable', 'no')
    return accept(command)
  }
  for (const message of messages) await publish(JSON.stringify({ ...message, ttl: '1h' }))
  const stored = (await recordsOf(admin, INGRESS_STREAM)).map(({ storedAtMs }) => storedAtMs)
  t.equal(stored.length, messages.length)
  areAllStored = true
  await until('all are accepted', async () => (await left()) === 0)
  const times = api.core.accepted.map(({ acceptedAtMs, position }) => acceptedAtMs ?? position?.storedAtMs)
  t.same(times.sort(), stored.sort())
})

t.test('an invalid record goes unchanged to the dead letters, with the code and the reason', async (t) => {
  const { api, publish, left, dead, registrationId } = await setUp(t)
  const good = { target: registrationId, type: 'device', ttl: '1h' }
  const cases: [string, string | Uint8Array, string | undefined][] = [
    ['malformed_json', '{', undefined],
    ['malformed_json', '', undefined],
    ['invalid_request', '[]', 'application/json'],
    ['invalid_request', JSON.stringify({ ...good, ttl: 'soon' }), undefined],
    ['invalid_request', Buffer.from([0xdd, 0x0f, 0xff, 0xff, 0xff]), 'application/msgpack'],
    ['invalid_request', packr.pack({ ...good, notification: { data: { when: new Date(0) } } }), 'application/msgpack'],
    ['unsupported_media_type', JSON.stringify(good), 'text/plain'],
    ['unknown_registration', JSON.stringify({ ...good, target: 'forged' }), undefined],
    ['unknown_application', JSON.stringify({ ...good, type: 'application', target: 'x' }), undefined],
    ['payload_too_large', JSON.stringify({ ...good, padding: 'x'.repeat(20_000) }), undefined],
  ]
  const sequences: number[] = []
  for (const [, body, contentType] of cases) sequences.push(await publish(body, contentType))
  await until('all are dead letters', async () => (await left()) === 0)
  // Records are handled concurrently, so the dead letters can have another order.
  const sequenceOf = (record: LogRecord) => Number(record.headers?.['ingress-sequence'])
  const records = (await dead()).sort((a, b) => sequenceOf(a) - sequenceOf(b))
  t.equal(records.length, cases.length)
  records.forEach((record, index) => {
    const [code, body, contentType] = cases[index] ?? []
    t.equal(record.subject, `push.dead.${api.project}`)
    t.equal(record.headers?.code, code, `${index}: ${code}`)
    t.ok(record.headers?.detail, 'the reason in words')
    t.equal(record.headers?.['Content-Type'], contentType)
    t.equal(sequenceOf(record), sequences[index])
    t.same(Buffer.from(record.body), Buffer.from(body ?? ''), 'the body is unchanged')
  })
  t.same(api.core.accepted, [])
})

t.test('refused targets are listed in a dead letter, and the others are sent', async (t) => {
  const { api, publish, left, dead, registrationId } = await setUp(t)
  await publish(JSON.stringify({ type: 'devices', target: [registrationId, 'forged'], ttl: '1h' }))
  await until('the record is acknowledged', async () => (await left()) === 0)
  t.equal(api.core.accepted[0]?.targets.length, 1)
  const [record] = await dead()
  t.equal(record?.headers?.code, 'unknown_registration')
  t.same(JSON.parse(Buffer.from(record?.body ?? []).toString()), {
    rejected: [{ target: 'forged', code: 'unknown_registration' }],
  })
})

t.test('a message of a suspended project is a dead letter with project_inactive', async (t) => {
  const { api, publish, left, dead } = await setUp(t)
  await setProjectActive(api.tenants, api.project, false)
  await until('the suspension is in effect', async () => !(await api.directory.project(api.project))?.isActive)
  await publish(JSON.stringify({ type: 'topic', target: 'news', ttl: '1h' }))
  await until('it is a dead letter', async () => (await left()) === 0)
  t.equal((await dead())[0]?.headers?.code, 'project_inactive')
})

t.test('while the store refuses, a record is delivered again with the same idempotency key', async (t) => {
  const { api, publish, left, dead } = await setUp(t)
  const accept = api.core.accept
  const keys: (string | undefined)[] = []
  const refusals = ['unavailable', 'full', 'timeout'] as const
  api.core.accept = async (command) => {
    const refusal = refusals[keys.length]
    keys.push(command.idempotency?.key)
    if (refusal) throw new BrokerError(refusal, 'no')
    return accept(command)
  }
  await publish(JSON.stringify({ type: 'topic', target: 'news', ttl: '1h' }))
  await until('the message is accepted', () => api.core.accepted.length === 1)
  await until('the record is acknowledged', async () => (await left()) === 0)
  t.equal(keys.length, 4)
  t.equal(new Set(keys).size, 1)
  t.same(await dead(), [])
})

t.test('a record that is delivered again has the same position and is marked as a repeat', async (t) => {
  const { api, publish, left, registrationId } = await setUp(t)
  const accept = api.core.accept
  const positions: (AcceptCommand['position'] | null)[] = []
  api.core.accept = async (command) => {
    positions.push(command.position)
    if (positions.length === 1) throw new BrokerError('unavailable', 'no')
    return accept(command)
  }
  const sequence = await publish(JSON.stringify({ target: registrationId, type: 'device', ttl: '1h' }))
  await until('the record is acknowledged', async () => (await left()) === 0)
  const [first] = positions
  t.match(first, { sequence, isRepeat: false })
  t.same(positions[1], { ...first, isRepeat: true })
})

t.test('after a crash of NATS, records stored before it are marked as repeats, later ones are not', async (t) => {
  const { api, publish, publisher, registrationId } = await setUp(t)
  const accept = api.core.accept
  const repeats: (boolean | undefined)[] = []
  let isAway = true
  api.core.accept = async (command) => {
    if (isAway) throw new BrokerError('unavailable', 'no')
    repeats.push(command.position?.isRepeat)
    return accept(command)
  }
  const body = JSON.stringify({ target: registrationId, type: 'device', ttl: '1h' })
  await publish(body)
  await api.nats.server.kill9()
  await api.nats.server.start()
  isAway = false
  await until('the message is accepted', () => repeats.length === 1)
  await until('the publisher is connected again', () => publisher.connected())
  await publish(body)
  await until('the next message is accepted', () => repeats.length === 2)
  t.same(repeats, [true, false])
})

t.test(
  'a record that causes an internal fault at each delivery becomes a dead letter, and blocks no other',
  async (t) => {
    const { api, publish, left, dead } = await setUp(t)
    const accept = api.core.accept
    api.core.accept = async (command) => {
      if (command.group?.name === 'poison') throw new TypeError('a fault of ours')
      return accept(command)
    }
    await publish(JSON.stringify({ type: 'topic', target: 'poison', ttl: '1h' }))
    await publish(JSON.stringify({ type: 'topic', target: 'news', ttl: '1h' }))
    await until('both records are acknowledged', async () => (await left()) === 0)
    t.equal(api.core.accepted.length, 1)
    const [record] = await dead()
    t.equal(record?.headers?.code, 'internal')
    t.notMatch(record?.headers?.detail, /a fault of ours/)
  },
)

t.test('a publisher cannot write to the subject of another project', async (t) => {
  const { publisher, left } = await setUp(t)
  await t.rejects(publisher.log(INGRESS_STREAM).append(ingressSubject('other'), Buffer.from('{}')), BrokerError)
  t.equal(await left(), 0)
})

t.test('after the stream lost its records, a record with a reused sequence has another idempotency key', async (t) => {
  const { api, publisher, publish } = await setUp(t)
  const topic = (target: string) => JSON.stringify({ type: 'topic', target, ttl: '1h' })
  t.equal(await publish(topic('first')), 1)
  await until('the first is accepted', () => api.core.accepted.length === 1)
  const reconnected = untilReconnected([publisher, api.broker])
  await api.nats.server.stop()
  loseRecords(api.nats.dataDir, INGRESS_STREAM)
  await api.nats.start()
  await reconnected
  t.equal(await publish(topic('second')), 1)
  await until('the second is accepted', () => api.core.accepted.length === 2)
  const [first, second] = api.core.accepted.map(({ idempotency }) => idempotency?.key)
  t.type(first, 'string')
  t.not(first, second)
})
