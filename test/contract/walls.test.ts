/**
 * Attacks with the credentials of a tenant or of a transport, on a real server. nats-server does not check reply subjects
 * against permissions, and JetStream's answers are valid requests: each attack tries to make JetStream write for the
 * attacker.
 */
import { type NatsConnection, connect as natsConnect, headers as natsHeaders } from 'nats'
import t, { type Test } from 'tap'
import type { Broker } from '../../src/nats/broker.js'
import { PUBLISHER_PROJECT, startNats, type TestNats, type TestRole } from '../support/nats.js'
import { HEADERS, TARGETS } from '../support/nats-attacks.js'
import { differences, pictureOf } from '../support/store-picture.js'
import { bytes, codeOf, text } from './suite.js'

t.setTimeout(120_000)

const OWN_DURABLE = `PUSH_EVENTS.reader-${PUBLISHER_PROJECT}`
const NEXT = `$JS.API.CONSUMER.MSG.NEXT.${OWN_DURABLE}`
const INFO = `$JS.API.CONSUMER.INFO.${OWN_DURABLE}`
const SEND = `push.send.${PUBLISHER_PROJECT}`

/** One publish of the attacker. */
interface Shot {
  subject: string
  reply?: string
  body?: string
  headers?: Record<string, string>
}

/** Users outside the account of the cores, each with a request that JetStream answers at once. */
const OUTSIDE: Record<string, { role: TestRole; trigger: Shot }> = {
  'a publisher': { role: 'publisher', trigger: { subject: SEND, body: 'x' } },
  'a subscriber': { role: 'subscriber', trigger: { subject: INFO } },
  'a transport': { role: 'transport', trigger: { subject: '$JS.API.STREAM.INFO.BROADCAST' } },
}

t.test('the attacks of a publisher only add records of its own project to INGRESS', async (t) => {
  const { nats, all, attack } = await open(t, 'publisher')
  const shots: Shot[] = TARGETS.flatMap((reply) => [
    // JetStream refuses it, and so answers without storing.
    { subject: SEND, reply, headers: { 'Nats-Expected-Stream': 'x' } },
    { subject: SEND, reply, body: '{"seq":1}' },
    { subject: reply, body: '' },
  ])
  for (const headers of HEADERS) shots.push({ subject: SEND, headers, reply: '$KV.PROJECTS.other', body: '+ACK' })
  const changes = await attack(shots)
  t.same(
    changes.filter((line) => !line.startsWith('INGRESS: ')),
    [],
  )
  const ingress = all.log('INGRESS')
  t.equal((await ingress.at(1))?.subject, 'push.send.other', 'the record of the other tenant is unchanged')
  const { lastSequence } = await ingress.state()
  for (let sequence = 2; sequence <= lastSequence; sequence++) {
    t.equal((await ingress.at(sequence))?.subject, SEND)
  }
  await nats.stop()
})

t.test('the attacks of a subscriber only move its own consumer', async (t) => {
  const { all, attack } = await open(t, 'subscriber')
  const bodies = ['{"batch":1,"no_wait":true}', '{"batch":3,"expires":1000000}', '{"batch":0}', 'x', '']
  const shots: Shot[] = TARGETS.flatMap((reply) => [
    ...bodies.map((body) => ({ subject: NEXT, reply, body })),
    { subject: INFO, reply },
    { subject: `$JS.ACK.${OWN_DURABLE}.1.1.1.1.0`, reply, body: '+NXT {"batch":1}' },
    { subject: `$JS.ACK.${OWN_DURABLE}.1.1.1.1.0`, reply, body: '-NAK' },
    { subject: reply, body: '' },
  ])
  for (const headers of HEADERS) shots.push({ subject: NEXT, headers, reply: '$KV.PROJECTS.other', body: '1' })
  const changes = await attack(shots)
  t.same(
    changes.filter((line) => !line.startsWith('PUSH_EVENTS: consumers ')),
    [],
  )
  t.equal(await all.log('PUSH_EVENTS').backlog('reader-other'), 1, 'the consumer of the other tenant')
})

t.test('a transport changes nothing but sessions, leases of its own instance, and receipts', async (t) => {
  const { core, attack } = await open(t, 'transport-one')
  await core.table('SESSIONS').put('1.dev_c', bytes('held by another'))
  await core.table('WORKERS').put('two.w', bytes('lease'))
  await core.log('QUEUE_1').append('queued.1.dev_a', bytes('q'))
  const body = '{"seq":1}'
  const shots: Shot[] = TARGETS.flatMap((reply) => [
    { subject: '$KV.SESSIONS.1.dev_b', reply, body },
    { subject: '$KV.SESSIONS.1.dev_b', reply, headers: { 'Nats-Expected-Stream': 'x' } },
    { subject: '$KV.WORKERS.one.w', reply, body },
    { subject: 'receipt.1.one.w.0', reply, body },
    { subject: '$JS.API.DIRECT.GET.KV_SESSIONS.$KV.SESSIONS.1.dev_a', reply },
    { subject: '$JS.API.DIRECT.GET.QUEUE_1', reply, body },
    { subject: '$JS.API.STREAM.MSG.GET.BROADCAST', reply, body },
    { subject: '$JS.API.STREAM.INFO.BROADCAST', reply },
    { subject: 'rx.router', reply, body },
    { subject: 'settle.queued', reply, body },
    { subject: 'ctl.one.w', reply, body },
    { subject: 'tx.one.w', reply, body },
    { subject: reply, body: '' },
  ])
  for (const headers of HEADERS) {
    for (const subject of ['$KV.SESSIONS.1.dev_b', '$KV.WORKERS.one.w', 'receipt.1.one.w.0']) {
      shots.push({ subject, headers, reply: '$KV.PROJECTS.other', body: '+ACK' })
    }
  }
  shots.push({ subject: '$KV.WORKERS.two.w', body: 'forged' })
  const changes = await attack(shots)
  t.same(
    changes.filter((line) => !/^(KV_SESSIONS|KV_WORKERS|RECEIPTS): (messages|lastSequence|firstSequence) /.test(line)),
    [],
  )
  t.equal(
    text((await core.table('SESSIONS').get('1.dev_c'))?.value),
    'held by another',
    'the session of another device is unchanged',
  )
  t.equal(
    text((await core.table('WORKERS').get('two.w'))?.value),
    'lease',
    'the lease of another instance is unchanged',
  )
  t.equal((await core.log('EVENTS_1').next('event.1.*.final', 1)) ?? null, null)
})

t.test('a transport reaches no other instance', async (t) => {
  const nats = await startNats(t, { instances: ['one', 'two'] })
  const [one, two] = [await rawAs(t, nats, 'transport-one'), await rawAs(t, nats, 'transport-two')]
  const core = await nats.brokerAs('core')
  const [heardByOne, heardByTwo] = [
    listen(one, '>', 'tx.two.*', 'ctl.two.*', '*.two.*'),
    listen(two, 'tx.two.*', 'ctl.two.*'),
  ]
  await settled(one)
  await settled(two)
  core.bus.publish('tx.two.w', bytes('for two'))
  core.bus.publish('ctl.two.w', bytes('for two'))
  for (const subject of ['tx.two.w', 'ctl.two.w']) one.publish(subject, 'forged')
  for (const reply of ['tx.two.w', 'ctl.two.w']) one.publish('$KV.SESSIONS.1.dev_b', 'x', { reply })
  await settled(one)
  await settled(two)
  t.same(heardByTwo, ['tx.two.w for two', 'ctl.two.w for two'])
  t.same(heardByOne, [])
})

t.test('a transport answers control requests to its own instance and no others', async (t) => {
  const nats = await startNats(t, { instances: ['one', 'two'] })
  const [one, two] = [await rawAs(t, nats, 'transport-one'), await rawAs(t, nats, 'transport-two')]
  const core = await nats.brokerAs('core')
  const replies: string[] = []
  two.subscribe('ctl.two.w', { callback: (_error, { reply = '' }) => void replies.push(reply) })
  one.subscribe('ctl.one.w', { callback: (_error, message) => void message.respond('from one') })
  await settled(two)
  await settled(one)
  const ask = (instance: string, timeoutMs: number) => {
    return core.bus.request(`ctl.${instance}.w`, bytes('?'), { timeoutMs, answersUnder: `answer.${instance}` })
  }
  t.equal(text(await ask('one', 20_000)), 'from one')
  const silent = codeOf(ask('two', 2_000))
  while (replies.length === 0) await two.flush()
  const [reply = ''] = replies
  one.publish(reply, 'forged')
  one.publish('$KV.SESSIONS.1.dev_b', 'x', { reply })
  t.equal((await silent).code, 'timeout', `${reply} is not of this instance`)
  t.equal((await codeOf(ask('three', 20_000))).code, 'no_responders', 'a worker that is gone is known at once')
})

for (const [name, account] of Object.entries(OUTSIDE)) {
  t.test(`${name} reaches no JetStream API and no system account`, async (t) => {
    const nats = await startNats(t)
    const nc = await rawAs(t, nats, account.role)
    const answers: string[] = []
    nc.subscribe(`_INBOX.${account.role}.>`, { callback: (_error, message) => answers.push(message.string()) })
    for (const subject of ['$JS.API.INFO', '$JS.API.STREAM.NAMES', '$JS.API.STREAM.LIST', '$SYS.REQ.USER.INFO']) {
      nc.publish(subject, '', { reply: `_INBOX.${account.role}.x` })
      // A reply subject carries the request past the permissions of this user, within its own account.
      nc.publish(account.trigger.subject, account.trigger.body ?? '', { reply: subject })
    }
    await settled(nc)
    t.same(answers, [])
  })
}

t.test('a tenant gets no answers, records or events of other roles, whatever filter it subscribes to', async (t) => {
  const nats = await startNats(t)
  const all = await nats.brokerAs('unrestricted')
  const subjects = [
    '_INBOX.core.x.1',
    '_INBOX.publisher.x.1',
    'push.event.other.delivered',
    'push.send.other',
    'msg.1.dev_a.1',
    'tx.i.w',
    'ctl.i.w',
    '$KV.PROJECTS.other',
    '$JS.EVENT.ADVISORY.API',
  ]
  for (const role of ['publisher', 'subscriber'] as const) {
    const nc = await rawAs(t, nats, role)
    const heard: string[] = []
    for (const filter of ['>', '_INBOX.>', '_INBOX.core.>', '_R_.>', '$JS.>', '$KV.>', 'push.event.*.*', '*.*.*']) {
      nc.subscribe(filter, { callback: (_error, message) => heard.push(message?.subject) })
    }
    await settled(nc)
    for (const subject of subjects) all.bus.publish(subject, bytes('secret'))
    await all.log('BROADCAST').state()
    await settled(nc)
    t.same(heard.filter(Boolean), [], role)
  }
})

async function open(t: Test, role: TestRole) {
  const nats = await startNats(t, { instances: ['one'] })
  const [all, core] = [await nats.brokerAs('unrestricted'), await nats.brokerAs('core')]
  for (const project of [PUBLISHER_PROJECT, 'other']) {
    const consumer = { startsAt: 'new' as const, ackWaitMs: 30_000, pendingMax: 100 }
    const filter = `push.event.${project}.*`
    await core.log('PUSH_EVENTS').createConsumer({ ...consumer, durable: `reader-${project}`, filter })
    await core.log('PUSH_EVENTS').append(`push.event.${project}.delivered`, bytes('+ACK'))
    await core.table('PROJECTS').put(project, bytes('{}'))
  }
  await core.log('INGRESS').createConsumer({ durable: 'ingress', ackWaitMs: 30_000, pendingMax: 100 })
  await all.log('INGRESS').append('push.send.other', bytes('theirs'))
  await pull(all, '$JS.API.CONSUMER.MSG.NEXT.INGRESS.ingress')
  await pull(all, '$JS.API.CONSUMER.MSG.NEXT.PUSH_EVENTS.reader-other')
  await core.log('AUDIT').append('audit.other', bytes('{}'))
  await core.log('DEAD_LETTERS').append('push.dead.other', bytes('{}'))
  await core.table('REVOKED').put('device.d', bytes('1'))
  const nc = await rawAs(t, nats, role)
  const attack = async (shots: Shot[]): Promise<string[]> => {
    const before = await pictureOf(all)
    for (const { subject, reply, body = '', headers } of shots) {
      const about = natsHeaders()
      for (const [key, value] of Object.entries(headers ?? {})) about.set(key, value)
      nc.publish(subject, body, { ...(reply && { reply }), ...(headers && { headers: about }) })
      // nats-server closes a connection with too many violations at once. The later shots must reach the server.
      if (nc.isClosed()) throw new Error('the connection of the attacker is closed: the attack proves nothing')
    }
    await settled(nc)
    return differences(before, await pictureOf(all))
  }
  return { nats, all, core, attack }
}

/** Pulls one record, so that an acknowledgement of it would have an effect. */
async function pull(broker: Broker, next: string): Promise<void> {
  await new Promise<void>((resolve) => {
    const inbox = `_INBOX.unrestricted.pull.${next.length}`
    const subscription = broker.bus.subscribe(inbox, () => {
      subscription.unsubscribe()
      resolve()
    })
    broker.bus.publish(next, bytes('1'), { reply: inbox })
  })
}

/** Collects the subject and the body of each message. */
function listen(nc: NatsConnection, ...filters: string[]): string[] {
  const heard: string[] = []
  for (const filter of filters) {
    nc.subscribe(filter, {
      callback: (error, message) => {
        if (!error) heard.push(`${message.subject} ${message.string()}`)
      },
    })
  }
  return heard
}

async function rawAs(t: Test, nats: TestNats, role: TestRole): Promise<NatsConnection> {
  const { url, user, password } = nats.settingsAs(role)
  const nc = await natsConnect({ servers: url, user, pass: password, inboxPrefix: `_INBOX.${role}` })
  t.teardown(() => nc.close())
  return nc
}

/** Resolves when the server has handled all earlier messages, and JetStream has had time to answer them. */
async function settled(nc: NatsConnection): Promise<void> {
  await nc.flush()
  await new Promise((resolve) => setTimeout(resolve, SETTLE_MS))
  await nc.flush()
}

/** JetStream answers within a few milliseconds. This test would miss an attack that takes longer. */
const SETTLE_MS = 500
