/** Behaviour that only a real server has: creation and change of streams, and the state after a kill -9. */
import { once } from 'node:events'
import { watch } from 'node:fs'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { connect } from 'nats'
import t from 'tap'
import { StatusListeners } from '../../src/nats/client/connection.js'
import { Link } from '../../src/nats/client/link.js'
import { Window } from '../../src/nats/client/window.js'
import { isStandalone } from '../../src/nats/connect.js'
import { NatsLog } from '../../src/nats/log.js'
import { ensureStreams, streamDefinitions } from '../../src/nats/server/streams.js'
import { startNats } from '../support/nats.js'
import { untilReconnected } from './reconnected.js'
import { bytes, codeOf, text } from './suite.js'

t.setTimeout(120_000)

t.test('ensureStreams succeeds on existing streams, which have the defined settings', async (t) => {
  const nats = await startNats(t)
  const { bus } = await nats.brokerAs('core')
  await ensureStreams(bus, nats.store)
  const info = await bus.request('$JS.API.STREAM.INFO.EVENTS_3', bytes(''), { timeoutMs: 20_000 })
  t.match(JSON.parse(info.toString()).config, {
    name: 'EVENTS_3',
    allow_direct: true,
    discard: 'new',
    max_age: nats.store.eventsAgeMs * 1e6,
  })
})

t.test('ensureStreams changes the size and the age limit of an existing stream', async (t) => {
  const nats = await startNats(t)
  const { bus } = await nats.brokerAs('core')
  await ensureStreams(bus, {
    ...nats.store,
    eventsBytesMax: nats.store.eventsBytesMax * 2,
    eventsAgeMs: 40 * 86_400_000,
  })
  const info = await bus.request('$JS.API.STREAM.INFO.EVENTS_0', bytes(''), { timeoutMs: 20_000 })
  t.match(JSON.parse(info.toString()).config, { max_age: 40 * 86_400 * 1e9, max_bytes: nats.store.eventsBytesMax * 2 })
})

t.test('ensureStreams refuses to change split and storage, and names the stream', async (t) => {
  const nats = await startNats(t)
  const { bus } = await nats.brokerAs('core')
  t.match(await codeOf(ensureStreams(bus, { ...nats.store, split: 2 })), {
    code: 'unavailable',
    message: /MESSAGES_0.*store\.split cannot change/,
  })
  t.match(await codeOf(ensureStreams(bus, { ...nats.store, storage: 'memory' })), { message: /MESSAGES_0 cannot be/ })
})

t.test('a standalone server answers a direct get as it answers a leader read', async (t) => {
  const nats = await startNats(t)
  const settings = nats.settingsAs('unrestricted')
  const nc = await connect({ servers: settings.url, user: settings.user, pass: settings.password })
  t.teardown(() => nc.close())
  const report = (problem: string, error: unknown) => t.fail(problem, { error })
  const link = new Link(nc, settings, '_INBOX', report)
  t.teardown(() => link.stop())
  const logOf = (isStandalone: boolean) =>
    new NatsLog('QUEUE_0', {
      ...{ link, report, headroom: null, mayCreateConsumers: true, isStandalone: () => isStandalone },
      ...{ appends: new Window(16, 16, 5_000), status: new StatusListeners() },
    })
  const [direct, leader] = [logOf(true), logOf(false)]
  await leader.append('queued.0.dev_a', bytes('first'), { headers: { Own: 'kept' } })
  await leader.append('queued.0.dev_a', bytes('second'))
  await leader.append('queued.0.dev_b', new Uint8Array())
  await leader.append('queued.0.dev_b', bytes('gone'))
  await leader.delete(4)
  const authoritative = true
  let leaderReads = 0
  nc.subscribe('$JS.API.STREAM.MSG.GET.QUEUE_0', { callback: () => leaderReads++ })
  for (const [name, read] of Object.entries({
    'last, present': (log: NatsLog) => log.last('queued.0.dev_a', { authoritative }),
    'last, deleted': (log: NatsLog) => log.last('queued.0.dev_b', { authoritative }),
    'last, absent': (log: NatsLog) => log.last('queued.0.dev_c', { authoritative }),
    'at, with headers': (log: NatsLog) => log.at(1, { authoritative }),
    'at, empty': (log: NatsLog) => log.at(3, { authoritative }),
    'at, deleted': (log: NatsLog) => log.at(4, { authoritative }),
    'next, present': (log: NatsLog) => log.next('queued.0.*', 2, { authoritative }),
    'next, absent': (log: NatsLog) => log.next('queued.0.dev_c', 1, { authoritative }),
  })) {
    const [found, expected] = [await read(direct), await read(leader)]
    t.same(found && { ...found, body: text(found.body) }, expected && { ...expected, body: text(expected.body) }, name)
    t.equal(found === null, /deleted|absent/.test(name), name)
  }
  await nc.flush()
  t.ok(leaderReads > 0, 'the second log did read from the leader')
})

t.test('for each split, the streams cover each partition of messages once and share no subject', async (t) => {
  const nats = await startNats(t, { streams: false })
  for (const split of [1, 3, 4, 64]) {
    const subjects = streamDefinitions({ ...nats.store, split }).flatMap((definition) => definition.subjects)
    t.equal(new Set(subjects).size, subjects.length)
    t.equal(subjects.filter((subject) => subject.startsWith('msg.')).length, 64)
  }
})

for (const isWritten of [false, true]) {
  const when = isWritten ? 'after' : 'before'
  t.test(`a kill -9 ${when} the server writes acknowledgements to disk leaves no record in the stream`, async (t) => {
    const nats = await startNats(t)
    const core = await nats.brokerAs('core')
    const log = core.log('MESSAGES_1')
    const delivered = new Set<number>()
    await log.consume({ durable: 'route', ackWaitMs: 1_000, pendingMax: 100 }, (delivery) => {
      // One record stays unacknowledged, so that the server keeps the block with all of them.
      if (delivery.sequence < 50 || delivered.has(50)) delivery.ack()
      delivered.add(delivery.sequence)
    })
    const state = join(nats.dataDir, 'jetstream/CORE/streams/MESSAGES_1/obs/route/o.dat')
    for (let i = 0; i < 50; i++) await log.append(`msg.1.dev_a.${i}`, bytes('x'))
    while ((await log.state()).messages > 1);
    // The server writes acknowledgements to disk with a delay.
    if (isWritten) await untilWritten(state, Date.now())
    const reconnected = untilReconnected([core])
    await nats.kill9()
    await nats.start()
    await reconnected
    while ((await log.state()).messages > 0);
    t.equal(delivered.size, 50)
    t.equal(await log.append('msg.1.dev_a.99', bytes('x')), 51)
  })
}

async function untilWritten(file: string, afterMs: number): Promise<void> {
  while (
    (await stat(file).then(
      ({ mtimeMs }) => mtimeMs,
      () => 0,
    )) < afterMs
  ) {
    await once(watch(file, { persistent: true }).unref(), 'change')
  }
}

t.test('a server is standalone if it has JetStream and belongs to no cluster', async (t) => {
  t.ok(isStandalone({ jetstream: true }))
  t.notOk(isStandalone({ jetstream: true, cluster: 'c1' }))
  t.notOk(isStandalone({ jetstream: false }), 'a server without JetStream forwards requests to unknown servers')
  t.notOk(isStandalone(undefined))
})
