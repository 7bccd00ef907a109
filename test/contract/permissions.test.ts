/** The NATS permissions of each role, on a real server: refused publishes are not stored, refused subscriptions silent. */
import t from 'tap'
import { BROADCAST_FILTER, controlAnswers } from '../../protocol/subjects.js'
import type { Broker } from '../../src/nats/broker.js'
import { connect } from '../../src/nats/connect.js'
import { permissionsOf } from '../../src/nats/server/permissions.js'
import { findNatsServer } from '../../src/nats/server/server-process.js'
import { PUBLISHER_PROJECT, startNats } from '../support/nats.js'
import { bytes, Collected, codeOf, text } from './suite.js'

t.setTimeout(120_000)

const SHORT = { requestTimeoutMs: 300 }
const CONTROL = { timeoutMs: 20_000, answersUnder: controlAnswers('i') }

/** Returns the subjects on which a publish of `broker` does not reach `listener`, a user without limits. */
async function refused(broker: Broker, listener: Broker, subjects: string[]): Promise<string[]> {
  const heard = new Collected<string>()
  const subscription = listener.bus.subscribe('>', ({ subject }) => heard.add(subject))
  await roundTrip(listener)
  for (const subject of subjects) broker.bus.publish(subject, bytes(''))
  // The server handles the publishes of a connection in order: when an allowed one arrives, the earlier ones are done.
  const last = broker === listener ? 'rx.last' : `push.send.${PUBLISHER_PROJECT}`
  broker.bus.publish(last, bytes(''))
  broker.bus.publish('rx.last', bytes(''))
  while (!heard.all.includes(last) && !heard.all.includes('rx.last')) await heard.until(heard.all.length + 1)
  subscription.unsubscribe()
  return subjects.filter((subject) => !heard.all.includes(subject))
}

/** Returns the filters whose subscription by `broker` gets no message that `publisher`, a user without limits, sends. */
async function silent(
  broker: Broker,
  publisher: Broker,
  subjects: [filter: string, subject: string][],
): Promise<string[]> {
  const heard = new Set<string>()
  for (const [filter] of subjects) broker.bus.subscribe(filter, () => heard.add(filter))
  await roundTrip(broker)
  for (const [, subject] of subjects) publisher.bus.publish(subject, bytes(''))
  await roundTrip(publisher)
  await roundTrip(broker)
  return subjects.map(([filter]) => filter).filter((filter) => !heard.has(filter))
}

/** Resolves when the server has handled all earlier publishes and subscriptions of this connection. */
const roundTrip = (broker: Broker) => Promise.allSettled([broker.log('BROADCAST').state()])

t.test(
  'a transport cannot publish on subjects of messages, events, tenants, other workers or stream management',
  async (t) => {
    const nats = await startNats(t, { nats: SHORT })
    const [transport, all] = [await nats.brokerAs('transport'), await nats.brokerAs('unrestricted')]
    const subjects = [
      'msg.1.dev_a.1',
      'queued.1.dev_a',
      'event.1.5.final',
      'event.1.5.accepted',
      'broadcast.p.app.x',
      'expiry.1.1',
      'event.1.5.receipts',
      'push.send.acme',
      '$KV.DEVICES.1.dev_a',
      '$KV.PROJECTS.p',
      '$KV.REVOKED.device.d',
      '$KV.CREDENTIALS.cred_a',
      '$KV.FEEDS.acme',
      'push.event.acme.delivered',
      'audit.acme',
      'reg.acme.app_a.=.dev_a',
      'tx.other.worker',
      'keyring.changed',
      '_INBOX.core.x',
      '$JS.API.STREAM.DELETE.EVENTS_0',
      '$JS.API.STREAM.PURGE.QUEUE_0',
      '$JS.API.STREAM.MSG.DELETE.QUEUE_0',
      '$JS.API.CONSUMER.CREATE.MESSAGES_0',
      '$JS.API.CONSUMER.CREATE.BROADCAST',
      '$JS.API.CONSUMER.DURABLE.CREATE.BROADCAST.d',
      '$JS.API.DIRECT.GET.EVENTS_1',
      '$JS.API.DIRECT.GET.KV_PROJECTS.$KV.PROJECTS.p',
      '$JS.API.DIRECT.GET.KV_FEEDS.$KV.FEEDS.acme',
      '$JS.API.CONSUMER.CREATE.PUSH_EVENTS',
      '$JS.API.STREAM.MSG.GET.MESSAGES_0',
    ]
    t.same(await refused(transport, all, subjects), subjects)
    t.equal((await all.log('EVENTS_1').state()).messages, 0)
  },
)

t.test('a transport', async (t) => {
  const nats = await startNats(t)
  const [transport, core] = [await nats.brokerAs('transport'), await nats.brokerAs('core')]

  await t.test('can write SESSIONS and WORKERS', async (t) => {
    t.ok(await transport.table('SESSIONS').put('1.dev_a', bytes('s'), 0))
    t.ok(await transport.table('WORKERS').put('i.w', bytes('l')))
  })

  await t.test('can read SESSIONS, DEVICES, WORKERS and REVOKED', async (t) => {
    t.ok(await transport.table('SESSIONS').get('1.dev_a', { authoritative: true }))
    for (const table of ['SESSIONS', 'DEVICES', 'WORKERS', 'REVOKED']) {
      t.equal(await transport.table(table).get('nobody'), null, table)
    }
  })

  await t.test('can read the queues of devices', async (t) => {
    await core.log('QUEUE_1').append('queued.1.dev_a', bytes('p'))
    t.equal((await transport.log('QUEUE_1').last('queued.1.dev_a', { authoritative: true }))?.sequence, 1)
    t.equal((await transport.log('QUEUE_1').next('queued.1.dev_a', 1))?.sequence, 1)
    t.equal((await transport.log('QUEUE_1').at(1))?.sequence, 1)
  })

  await t.test('can append receipts to RECEIPTS', async (t) => {
    t.ok(await transport.log('RECEIPTS').append('receipt.5.i.w.0', bytes('r')))
  })

  await t.test('can watch REVOKED', async (t) => {
    const revoked = new Collected<string>()
    await transport.table('REVOKED').watch('>', ({ key }) => revoked.add(key))
    await core.table('REVOKED').put('device.d', bytes('1'))
    t.same(await revoked.until(1), ['device.d'])
  })

  await t.test('can tail BROADCAST and read its state', async (t) => {
    const sequences = new Collected<number>()
    const options = { fromSequence: 1, filter: BROADCAST_FILTER }
    await transport.log('BROADCAST').tail(options, ({ sequence }) => sequences.add(sequence))
    await core.log('BROADCAST').append('broadcast.p.app.x', bytes('g'))
    t.same(await sequences.until(1), [1])
    t.equal((await transport.log('BROADCAST').state()).lastSequence, 1)
  })

  await t.test('can answer control requests of a core', async (t) => {
    transport.bus.subscribe('ctl.i.w', ({ reply }) => transport.bus.publish(reply, bytes('here')))
    await roundTrip(transport)
    t.equal((await core.bus.request('ctl.i.w', bytes('?'), CONTROL)).toString(), 'here')
  })

  await t.test('hears, as a core does, that administration has changed the keyring', async (t) => {
    const admin = await nats.brokerAs('admin')
    const heard = new Collected<string>()
    transport.bus.subscribe('keyring.changed', () => heard.add('transport'))
    core.bus.subscribe('keyring.changed', () => heard.add('core'))
    await Promise.all([roundTrip(transport), roundTrip(core)])
    admin.bus.publish('keyring.changed', bytes(''))
    t.same([...(await heard.until(2))].sort(), ['core', 'transport'])
  })

  await t.test('can ask a core to settle', async (t) => {
    core.bus.subscribe('settle.queued', ({ reply }) => core.bus.publish(reply, bytes('ok')), { queue: 'core' })
    await roundTrip(core)
    t.equal((await transport.bus.request('settle.queued', bytes('?'), { timeoutMs: 20_000 })).toString(), 'ok')
  })
})

t.test(
  'administration and core can write AUDIT, a core REGISTRATIONS, and administration can ask workers',
  async (t) => {
    const nats = await startNats(t)
    const [admin, core, transport] = [
      await nats.brokerAs('admin'),
      await nats.brokerAs('core'),
      await nats.brokerAs('transport'),
    ]
    for (const broker of [admin, core]) t.ok(await broker.log('AUDIT').append('audit.acme', bytes('{}')))
    const sequence = await core.log('REGISTRATIONS').append('reg.acme.app_a.=.dev_a', bytes('[]'))
    t.equal(await core.log('REGISTRATIONS').delete(sequence), true)
    transport.bus.subscribe('ctl.i.w', ({ reply }) => transport.bus.publish(reply, bytes('here')))
    await roundTrip(transport)
    t.equal((await admin.bus.request('ctl.i.w', bytes('?'), CONTROL)).toString(), 'here')
  },
)

t.test('no role gets messages of another role, whatever filter it subscribes to', async (t) => {
  const nats = await startNats(t, { nats: SHORT })
  const all = await nats.brokerAs('unrestricted')
  const secrets: [string, string][] = [
    ['>', 'rx.hidden'],
    ['_INBOX.>', '_INBOX.someone.1'],
    ['_INBOX.core.>', '_INBOX.core.1'],
    ['msg.>', 'msg.1.dev_a.1'],
    ['queued.>', 'queued.1.dev_a'],
    ['event.>', 'event.1.1.final'],
    ['broadcast.>', 'broadcast.p.app.x'],
    ['push.send.*', 'push.send.other'],
    ['$KV.>', '$KV.PROJECTS.p'],
  ]
  const filters = secrets.map(([filter]) => filter)
  // A transport receives group messages, because it delivers them.
  const ofOthers = secrets.filter(([filter]) => filter !== 'broadcast.>')
  t.same(
    await silent(await nats.brokerAs('transport'), all, ofOthers),
    ofOthers.map(([filter]) => filter),
    'transport',
  )
  t.same(await silent(await nats.brokerAs('publisher'), all, secrets), filters, 'publisher')
  const others = secrets.filter(([filter]) => filter !== '_INBOX.core.>')
  t.same(
    await silent(await nats.brokerAs('core'), all, others),
    others.map(([filter]) => filter),
    'core',
  )
})

t.test('a publisher can append to INGRESS for its own project, and publish on no other subject', async (t) => {
  const nats = await startNats(t, { nats: SHORT })
  const [publisher, all] = [await nats.brokerAs('publisher'), await nats.brokerAs('unrestricted')]
  const subjects = ['push.send.other', 'push.dead.acme', 'msg.1.dev_a.1', 'rx.r', '$JS.API.INFO', '$KV.PROJECTS.p']
  t.same(await refused(publisher, all, subjects), subjects)
  const before = (await all.log('INGRESS').state()).lastSequence
  t.equal(await publisher.log('INGRESS').append(`push.send.${PUBLISHER_PROJECT}`, bytes('m')), before + 1)
  t.equal((await codeOf(publisher.log('INGRESS').append('push.send.other', bytes('m')))).code, 'timeout')
})

t.test('a subscriber of a project', async (t) => {
  const nats = await startNats(t, { nats: SHORT })
  const [subscriber, all, core] = [
    await nats.brokerAs('subscriber'),
    await nats.brokerAs('unrestricted'),
    await nats.brokerAs('core'),
  ]
  const outcomes = core.log('PUSH_EVENTS')
  const consumer = { startsAt: 'new' as const, ackWaitMs: 30_000, pendingMax: 10 }
  for (const project of [PUBLISHER_PROJECT, 'other']) {
    await outcomes.createConsumer({ ...consumer, durable: `reader-${project}`, filter: `push.event.${project}.*` })
  }
  const live = new Collected<string>()

  await t.test('can subscribe to the outcomes of its project', async (t) => {
    subscriber.bus.subscribe(`push.event.${PUBLISHER_PROJECT}.*`, ({ body }) => live.add(text(body)))
    t.equal(await subscriber.log('PUSH_EVENTS').backlog(`reader-${PUBLISHER_PROJECT}`), 0)
    await outcomes.append(`push.event.${PUBLISHER_PROJECT}.delivered`, bytes('own'))
    await outcomes.append('push.event.other.delivered', bytes('of another project'))
    t.same(await live.until(1), ['own'])
  })

  await t.test('can pull from the consumer of its project', async (t) => {
    const next = `$JS.API.CONSUMER.MSG.NEXT.PUSH_EVENTS.reader-${PUBLISHER_PROJECT}`
    const pulled = new Collected<string>()
    subscriber.bus.subscribe('_INBOX.subscriber.pulled', ({ body }) => pulled.add(text(body)))
    subscriber.bus.publish(next, bytes('1'), { reply: '_INBOX.subscriber.pulled' })
    t.same(await pulled.until(1), ['own'])
  })

  await t.test('can publish neither outcomes, nor requests about other consumers or streams', async (t) => {
    const subjects = [
      `push.event.${PUBLISHER_PROJECT}.delivered`,
      '$JS.API.CONSUMER.MSG.NEXT.PUSH_EVENTS.reader-other',
      '$JS.API.CONSUMER.INFO.PUSH_EVENTS.reader-other',
      '$JS.ACK.PUSH_EVENTS.reader-other.1.2.3.4.0',
      '$JS.API.CONSUMER.CREATE.PUSH_EVENTS',
      '$JS.API.CONSUMER.DURABLE.CREATE.PUSH_EVENTS.mine',
      `$JS.API.CONSUMER.DURABLE.CREATE.PUSH_EVENTS.reader-${PUBLISHER_PROJECT}`,
      `$JS.API.CONSUMER.DELETE.PUSH_EVENTS.reader-${PUBLISHER_PROJECT}`,
      '$JS.API.STREAM.INFO.PUSH_EVENTS',
      '$JS.API.STREAM.MSG.GET.PUSH_EVENTS',
      '$JS.API.DIRECT.GET.PUSH_EVENTS',
      '$JS.API.DIRECT.GET.KV_FEEDS',
      `push.send.${PUBLISHER_PROJECT}`,
      'rx.router',
    ]
    const heard = new Collected<string>()
    all.bus.subscribe('>', ({ subject }) => heard.add(subject))
    await roundTrip(all)
    for (const subject of subjects) subscriber.bus.publish(subject, bytes(''))
    const allowed = `$JS.ACK.PUSH_EVENTS.reader-${PUBLISHER_PROJECT}.1.1.1.1.0`
    subscriber.bus.publish(allowed, bytes('+ACK'))
    while (!heard.all.includes(allowed)) await heard.until(heard.all.length + 1)
    t.same(
      heard.all.filter((subject) => subjects.includes(subject)),
      [],
    )
  })

  await t.test('gets no message of other projects or roles', async (t) => {
    const others: [filter: string, subject: string][] = [
      ['push.event.other.*', 'push.event.other.delivered'],
      ['push.event.*.*', 'push.event.other.delivered'],
      ['_INBOX.core.>', '_INBOX.core.x'],
    ]
    t.same(
      await silent(subscriber, all, others),
      others.map(([filter]) => filter),
    )
    t.same(live.all, ['own'])
  })
})

t.test(
  'a core cannot delete streams, purge waiting messages or the audit log, delete single events and group messages, or write as another role',
  async (t) => {
    const nats = await startNats(t, { nats: SHORT })
    const [core, all] = [await nats.brokerAs('core'), await nats.brokerAs('unrestricted')]
    const subjects = [
      '$JS.API.STREAM.DELETE.MESSAGES_0',
      '$JS.API.STREAM.PURGE.MESSAGES_0',
      '$JS.API.STREAM.PURGE.QUEUE_0',
      '$JS.API.STREAM.PURGE.AUDIT',
      '$JS.API.STREAM.MSG.DELETE.EVENTS_0',
      '$JS.API.STREAM.MSG.DELETE.BROADCAST',
      'rx.router',
      'push.send.acme',
    ]
    const heard = new Collected<string>()
    all.bus.subscribe('>', ({ subject }) => heard.add(subject))
    await roundTrip(all)
    for (const subject of subjects) core.bus.publish(subject, bytes(''))
    core.bus.publish('tx.i.end', bytes(''))
    while (!heard.all.includes('tx.i.end')) await heard.until(heard.all.length + 1)
    t.same(
      heard.all.filter((subject) => subjects.includes(subject)),
      [],
    )
  },
)

t.test(
  'a transport user that names its instance can subscribe to subjects of that instance, and to notices for all',
  async (t) => {
    const user = { role: 'transport', user: 't1', password: 'x', instance: 'one' } as const
    t.same(permissionsOf(user, 4).subscribe, [
      ...['tx.one.*', 'ctl.one.*', 'broadcast.>', '$KV.REVOKED.>', 'keyring.changed'],
      '_INBOX.t1.>',
    ])
  },
)

t.test('connecting with a wrong password rejects at once as unavailable', async (t) => {
  const nats = await startNats(t, { streams: false })
  const error = await codeOf(connect({ ...nats.settingsAs('core'), password: 'no' }, { name: 'core' }))
  t.equal(error.code, 'unavailable')
  t.match(error.message, /refuses this user/)
})

t.test('connecting without a server rejects as unavailable after connectTimeoutMs, without the password', async (t) => {
  const nats = await startNats(t, { streams: false })
  const settings = { ...nats.settingsAs('core'), connectTimeoutMs: 300 }
  await nats.stop()
  const error = await codeOf(connect({ ...settings, url: 'nats://u:secret@127.0.0.1:1' }, { name: 'core' }))
  t.match(error, { code: 'unavailable', message: /did not answer for 300 ms/ })
  t.notMatch(error.message, /secret/)
})

t.test('findNatsServer returns NATS_SERVER_BIN without a search', async (t) => {
  t.equal(findNatsServer({ NATS_SERVER_BIN: '/opt/nats-server' }), '/opt/nats-server')
})
