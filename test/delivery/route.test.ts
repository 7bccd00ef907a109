import t from 'tap'
import { decodeEndedNotice, Report } from '../../protocol/envelope.js'
import { Bucket, ENDED_SUBJECT } from '../../protocol/subjects.js'
import { systemClock } from '../../src/clock.js'
import { DeviceStore } from '../../src/store/devices.js'
import { deviceName, eventually, messageTo, startTestCore } from '../support/core.js'
import { FakeWorker } from '../support/fake-worker.js'
import { startNats } from '../support/nats.js'

const SPLIT = 2

t.test('a router on a real nats-server', async (t) => {
  const nats = await startNats(t, { store: { split: SPLIT } })
  const coreBroker = await nats.brokerAs('core')
  const workerBroker = await nats.brokerAs('transport')
  const core = await startTestCore(coreBroker, SPLIT)
  t.teardown(() => core.stop())
  const worker = new FakeWorker(workerBroker).start()
  t.teardown(() => worker.die())

  await t.test('a message that the device acknowledges is delivered and leaves MESSAGES', async (t) => {
    const device = deviceName(1)
    await worker.connect(device)
    const { id } = await core.accept(messageTo([device]))
    t.match(await core.final(id), { kind: 'delivered', project: 'acme', device })
    await core.acknowledged(device, id)
    t.match(await core.events.readAccepted(id), { project: 'acme', device, registration: 1 })
    t.equal((await core.queue.walk(device)).length, 0, 'no record in the queue')
  })

  await t.test(
    'a message to an absent device is queued and acknowledged to JetStream, without a final event',
    async (t) => {
      const device = deviceName(2)
      const { id } = await core.accept(messageTo([device]))
      await core.acknowledged(device, id)
      const queue = await core.queue.walk(device)
      t.same(
        queue.map((entry) => entry.record.message.id),
        [id],
      )
      t.equal(await core.events.readFinal(id), null)
      const status = await core.readStatus(id)
      t.match(status, { status: 'queued', counts: { accepted: 1, pending: 1 } })
    },
  )

  await t.test('a message to an ended registration', async (t) => {
    const [absent, connected] = [deviceName(90), deviceName(91)]
    const devices = new DeviceStore(coreBroker.table(Bucket.DEVICES))
    const kept = { project: 'acme', application: 'app', user: '', channel: 'native', createdAtMs: 1, since: 0 } as const
    const other = { ...kept, number: 2, addedVersion: 1 }
    for (const device of [absent, connected]) {
      await devices.update(device, (before) => ({ ...before, version: 2, nextNumber: 3, registrations: [other] }))
    }
    const notified: string[] = []
    const notices = coreBroker.bus.subscribe(ENDED_SUBJECT, ({ body }) => notified.push(decodeEndedNotice(body).device))
    t.teardown(() => notices.unsubscribe())

    await t.test('fails as ended and is not queued, if the device is absent', async (t) => {
      const { id } = await core.accept(messageTo([absent]))
      t.match(await core.final(id), { kind: 'failed', reason: 'ended', device: absent })
      await core.acknowledged(absent, id)
      t.equal((await core.queue.walk(absent)).length, 0)
      t.match(await core.readStatus(id), { status: 'failed', counts: { accepted: 1, failed: 1 } })
    })

    await t.test('fails as ended, if the worker of the device reports it as ended', async (t) => {
      await worker.connect(connected)
      worker.onItem = () => Report.ENDED
      const { id } = await core.accept(messageTo([connected]))
      t.match(await core.final(id), { kind: 'failed', reason: 'ended', device: connected })
      await core.acknowledged(connected, id)
      worker.onItem = () => Report.ACKED
    })

    await t.test('makes the core publish a notice, so that senders are refused from then on', async (t) => {
      await eventually(systemClock, 'the notices', async () => (notified.length >= 2 ? notified : null))
      t.same(notified, [absent, connected])
    })
  })

  await t.test('a message that the worker refuses is queued, and the worker is asked to read the queue', async (t) => {
    const device = deviceName(3)
    await worker.connect(device)
    worker.onItem = () => Report.WINDOW_FULL
    const { id } = await core.accept(messageTo([device]))
    await core.acknowledged(device, id)
    t.ok(worker.catchUpsAsked.includes(device))
    t.equal((await core.queue.walk(device)).length, 1)
    worker.onItem = () => Report.ACKED
  })

  await t.test('a message to a dead worker is queued at once: the server answers no responders', async (t) => {
    const device = deviceName(4)
    const dead = new FakeWorker(workerBroker, '1-dead')
    await dead.connect(device)
    const before = Date.now()
    const { id } = await core.accept(messageTo([device]))
    await core.acknowledged(device, id)
    t.ok(Date.now() - before < 200, `${Date.now() - before} ms`)
    t.equal((await core.queue.walk(device)).length, 1)
  })

  await t.test('a message answered not_here is sent to the worker that has the session now', async (t) => {
    const device = deviceName(5)
    const other = new FakeWorker(workerBroker, '2-other').start()
    t.teardown(() => other.die())
    await worker.connect(device)
    const first = await core.accept(messageTo([device]))
    await core.final(first.id)
    await other.connect(device)
    worker.onItem = () => Report.NOT_HERE
    const { id } = await core.accept(messageTo([device]))
    t.match(await core.final(id), { kind: 'delivered' })
    t.same(
      other.items.map((item) => item.id),
      [id],
    )
    worker.onItem = () => Report.ACKED
  })

  await t.test('an unanswered message is queued after silentMs and settled by a late acknowledgement', async (t) => {
    const device = deviceName(6)
    await worker.connect(device)
    worker.onItem = () => 'silent'
    const { id } = await core.accept(messageTo([device]))
    await core.acknowledged(device, id)
    worker.onItem = () => Report.ACKED
    const [entry] = await core.queue.walk(device)
    if (!entry) return t.fail('a record is expected in the queue')
    const { project, application } = entry.record.message
    const item = { id, device, project, application, queueSequence: entry.sequence, atMs: Date.now() }
    t.same(await worker.settle([item]), [entry.sequence])
    t.match(await core.events.readFinal(id), { kind: 'delivered' })
    t.same(await core.queue.walk(device), [])
    t.same(await worker.settle([item]), [entry.sequence], 'a repeat is confirmed')
  })

  await t.test('the counters equal the messages of the tests above', async (t) => {
    await eventually(systemClock, 'the counters', async () => {
      const rows = await core.readCounters('acme')
      const counts = rows[0]?.counts
      return counts?.accepted === 9 && counts.failed === 2 && counts.pending === 3 ? true : null
    })
    t.match((await core.readCounters('acme'))[0]?.counts, { accepted: 9, delivered: 4, failed: 2, pending: 3 })
  })
})
