import t from 'tap'
import type { StoredMessage } from '../../protocol/envelope.js'
import { MessageIdSource, partitionOf } from '../../protocol/message-id.js'
import { queueStream } from '../../protocol/subjects.js'
import { QueueWriter } from '../../src/core/delivery/queue/enqueue.js'
import type { Broker } from '../../src/nats/broker.js'
import { silentLogger } from '../../src/observe/log.js'
import { EventLog } from '../../src/store/events.js'
import { ExpiryLog } from '../../src/store/expiry.js'
import { DeviceQueue } from '../../src/store/queue.js'
import { SimBroker } from '../sim/broker.js'
import { APPLICATION, deviceName, PROJECT } from '../support/core.js'
import { interrupted } from '../support/interrupted.js'

const SPLIT = 2
const LIMIT = 5
const DEVICE = deviceName(7)

function setUp(queueMax = LIMIT) {
  const sim = new SimBroker({ store: { split: SPLIT } })
  const healthy = sim.brokerFor('core')
  const ids = new MessageIdSource(1, () => sim.clock.now())
  let runs = 0
  const partsOn = (broker: Broker) => {
    const events = new EventLog(broker, SPLIT, `run${++runs}`)
    const expiry = new ExpiryLog(broker, 10_000)
    const queue = new DeviceQueue(broker, SPLIT, (m, sequence) => expiry.addQueued(m, sequence, sim.clock.now()))
    return {
      events,
      queue,
      queueWriter: new QueueWriter({
        ...{ clock: sim.clock, log: silentLogger, queue, events, expiry, queueMax },
        expireSoon: { add: () => undefined },
      }),
    }
  }
  const message = (changes: Partial<StoredMessage> = {}): StoredMessage => {
    const id = ids.next(partitionOf(DEVICE))
    const acceptedAtMs = sim.clock.now()
    return {
      id,
      parent: id,
      project: PROJECT,
      application: APPLICATION,
      device: DEVICE,
      registration: 1,
      acceptedAtMs,
      expiresAtMs: acceptedAtMs + 3_600_000,
      collapseKey: '',
      frame: new Uint8Array([1, 2, 3]),
      ...changes,
    }
  }
  const parts = partsOn(healthy)
  const enqueue = async (queueWriter: QueueWriter, messages: StoredMessage[], again: StoredMessage[] = []) =>
    sim.clock.advanceUntil(queueWriter.enqueue(DEVICE, messages, new Set(again.map(({ id }) => id))))
  const owed = async () => {
    const entries = await sim.clock.advanceUntil(parts.queue.walk(DEVICE))
    return entries.map((entry) => entry.record.message.id)
  }
  const lastDropped = async () => (await sim.clock.advanceUntil(parts.queue.last(DEVICE)))?.record.dropped
  const finalKind = async ({ id }: StoredMessage) => (await sim.clock.advanceUntil(parts.events.readFinal(id)))?.kind
  return { sim, healthy, partsOn, ...parts, message, enqueue, owed, lastDropped, finalKind }
}

/** The entries of EXPIRY. */
async function entriesOf(sim: SimBroker) {
  const expiry = new ExpiryLog(sim.brokerFor('judge'), 10_000)
  const entries = []
  let found = await sim.clock.advanceUntil(expiry.next(null, 1))
  for (; found; found = await sim.clock.advanceUntil(expiry.next(null, found.sequence + 1)))
    entries.push(expiry.decode(found))
  return entries
}

const idsOf = (messages: StoredMessage[]) => messages.map(({ id }) => id)

t.test('messages enqueued together are queued in the given order', async (t) => {
  const { enqueue, queueWriter, message, owed } = setUp()
  const messages = [message(), message(), message()]
  t.same(await enqueue(queueWriter, messages), ['queued', 'queued', 'queued'])
  t.same(await owed(), idsOf(messages))
})

t.test(
  'messages beyond the queue limit drop the oldest, each with one count, a final event and a delete',
  async (t) => {
    const { enqueue, queueWriter, message, owed, lastDropped, finalKind } = setUp()
    const messages = Array.from({ length: 12 }, () => message())
    for (const message of messages) await enqueue(queueWriter, [message])
    t.same(await owed(), idsOf(messages.slice(-LIMIT)))
    t.equal(await lastDropped(), 7)
    const kinds = await Promise.all(messages.map(async (message) => finalKind(message)))
    t.same(kinds, [...Array(7).fill('dropped'), ...Array(LIMIT).fill(undefined)])
  },
)

t.test('120 messages enqueued at once to a limit of 100 drop the oldest 20', async (t) => {
  const { enqueue, queueWriter, message, owed, lastDropped } = setUp(100)
  const messages = Array.from({ length: 120 }, () => message())
  await enqueue(queueWriter, messages)
  t.same(await owed(), idsOf(messages.slice(20)))
  t.equal(await lastDropped(), 20)
})

t.test('after an overflow interrupted at any write, a retry makes count, queue and final events exact', async (t) => {
  for (const when of ['before', 'after'] as const) {
    for (let at = 1; ; at++) {
      const { healthy, partsOn, enqueue, queueWriter, message, owed, lastDropped, finalKind, queue, sim } = setUp()
      const messages = Array.from({ length: LIMIT }, () => message())
      await enqueue(queueWriter, messages)
      const late = message()
      const run = interrupted(healthy, at, when)
      const crashed = await enqueue(partsOn(run.broker).queueWriter, [late]).then(
        () => false,
        () => true,
      )
      // The message was not acknowledged to JetStream, so it is delivered again, to another process.
      if (crashed) await enqueue(queueWriter, [late], [late])
      const last = message()
      await enqueue(queueWriter, [last])
      const expected = [...messages.slice(2), late, last]
      t.same(await owed(), idsOf(expected), `${when} write ${at}: the queue`)
      t.equal(await lastDropped(), 2, `${when} write ${at}: the count`)
      const kinds = await Promise.all([...messages.slice(0, 2), ...expected].map((message) => finalKind(message)))
      t.same(kinds, ['dropped', 'dropped', ...Array(LIMIT).fill(undefined)], `${when} write ${at}: the final events`)
      const all = await sim.clock.advanceUntil(queue.walkAll(DEVICE))
      t.same(all.length, LIMIT, `${when} write ${at}: no other record is left`)
      if (!crashed) break
      t.ok(at < 20)
    }
  }
})

t.test('a queued message that was delivered before an overflow is evicted and not counted as dropped', async (t) => {
  const { enqueue, queueWriter, message, events, lastDropped, owed, sim } = setUp()
  const messages = Array.from({ length: LIMIT }, () => message())
  await enqueue(queueWriter, messages)
  const [delivered] = messages
  if (!delivered) return t.fail()
  const { id, project, application, device } = delivered
  await sim.clock.advanceUntil(
    events.final(id, { kind: 'delivered', atMs: sim.clock.now(), project, application, device, reason: '' }),
  )
  const late = message()
  await enqueue(queueWriter, [late])
  t.equal(await lastDropped(), 0)
  t.same(await owed(), idsOf([...messages.slice(1), late]))
})

t.test('a redelivered message that is in the queue is not appended again', async (t) => {
  const { enqueue, queueWriter, message, owed } = setUp()
  const [first, second] = [message(), message()]
  await enqueue(queueWriter, [first, second])
  t.same(await enqueue(queueWriter, [first], [first]), ['present'])
  t.same(await owed(), idsOf([first, second]))
})

t.test('two copies of one message count once against the limit and are dropped together', async (t) => {
  const { enqueue, queueWriter, message, owed, lastDropped, finalKind } = setUp(3)
  const [first, second, third, fourth] = [message(), message(), message(), message()]
  // A first delivery does not look for an earlier copy. Two routers that have the message at once make two copies.
  await enqueue(queueWriter, [first, second])
  t.same(await enqueue(queueWriter, [first]), ['queued'])
  t.same(await owed(), idsOf([first, second, first]))
  await enqueue(queueWriter, [third])
  t.equal(await lastDropped(), 0, 'a copy drops nothing')
  await enqueue(queueWriter, [fourth])
  t.equal(await lastDropped(), 1)
  t.equal(await finalKind(first), 'dropped')
  t.same(await owed(), idsOf([second, third, fourth]))
})

t.test('a collapse key replaces the queued message with that key of the same registration only', async (t) => {
  const { enqueue, queueWriter, message, owed, finalKind, lastDropped } = setUp()
  const other = message({ registration: 2, collapseKey: 'k' })
  const plain = message()
  const old = message({ collapseKey: 'k' })
  const between = message()
  const fresh = message({ collapseKey: 'k' })
  for (const queued of [other, plain, old, between, fresh]) await enqueue(queueWriter, [queued])
  t.same(await owed(), idsOf([other, plain, between, fresh]))
  t.equal(await finalKind(old), 'collapsed')
  t.equal(await lastDropped(), 0)
  const late = message()
  await enqueue(queueWriter, [late])
  t.same(await owed(), idsOf([other, plain, between, fresh, late]), 'the links to the older records are whole')
})

t.test('an older message with the same collapse key, enqueued late, does not replace the newer one', async (t) => {
  const { enqueue, queueWriter, message, owed } = setUp()
  const old = message({ collapseKey: 'k' })
  const fresh = message({ collapseKey: 'k' })
  await enqueue(queueWriter, [fresh])
  t.same(await enqueue(queueWriter, [old]), ['replaced'])
  t.same(await owed(), idsOf([fresh]))
})

t.test('an append whose answer was lost is completed by the retry, which deletes the evicted records', async (t) => {
  const overflow = { limit: 2, key: '', kind: 'dropped' } as const
  const collapse = { limit: LIMIT, key: 'k', kind: 'collapsed' } as const
  for (const { limit, key, kind } of [overflow, collapse]) {
    const { healthy, partsOn, enqueue, queueWriter, message, owed, finalKind, queue, sim } = setUp(limit)
    const evictedEntry = message({ collapseKey: key })
    const older = kind === 'dropped' ? [evictedEntry, message()] : [evictedEntry]
    await enqueue(queueWriter, older)
    const late = message({ collapseKey: key })
    // The final event of the evicted message is written, then the append is stored, but its answer is lost.
    const run = interrupted(healthy, 2, 'after')
    await t.rejects(enqueue(partsOn(run.broker).queueWriter, [late]))
    const whole = async () =>
      (await sim.clock.advanceUntil(queue.walkAll(DEVICE))).map(({ record }) => record.message.id)
    t.same(await whole(), idsOf([...older, late]), `${kind}: the append is stored`)
    t.same(await enqueue(queueWriter, [late], [late]), ['present'])
    t.same(await whole(), idsOf([...older.slice(1), late]), `${kind}: the evicted record is deleted`)
    t.same(await owed(), idsOf([...older.slice(1), late]))
    t.equal(await finalKind(evictedEntry), kind)
    t.same(await enqueue(queueWriter, [late], [late]), ['present'], 'a second retry')
    t.same(await whole(), idsOf([...older.slice(1), late]))
  }
})

t.test('after an interruption at any write, a walk or EXPIRY reaches each queue record', async (t) => {
  for (const work of ['remove', 'collapse'] as const) {
    for (const when of ['before', 'after'] as const) {
      for (let at = 1; ; at++) {
        const { healthy, partsOn, enqueue, message, queue, sim } = setUp()
        const messages = [message(), message({ collapseKey: 'k' })]
        for (const queued of messages) {
          // The record is stored and the answer lost, so the entry in EXPIRY is not written.
          await t.rejects(enqueue(partsOn(interrupted(healthy, 1, 'after').broker).queueWriter, [queued]))
        }
        const interruptedWriter = partsOn(interrupted(healthy, at, when).broker).queueWriter
        const late = message({ collapseKey: 'k' })
        const done: Promise<unknown> =
          work === 'remove' ? interruptedWriter.withdraw(DEVICE, messages.slice(1)) : enqueue(interruptedWriter, [late])
        const crashed = await sim.clock.advanceUntil(done).then(
          () => false,
          () => true,
        )
        const reached = new Set((await sim.clock.advanceUntil(queue.walkAll(DEVICE))).map(({ sequence }) => sequence))
        const inExpiry = new Set((await entriesOf(sim)).map((entry) => entry?.queueSequence))
        const queued = sim.server.stream(queueStream(partitionOf(DEVICE) % SPLIT))
        for (let record = queued.next('>', 1); record; record = queued.next('>', record.sequence + 1)) {
          const isSafe = reached.has(record.sequence) || inExpiry.has(record.sequence)
          t.ok(isSafe, `${work}, ${when} write ${at}: the record at ${record.sequence}`)
        }
        if (!crashed) break
        t.ok(at < 20)
      }
    }
  }
})

t.test('a dropped message that is delivered again is not appended and drops no other', async (t) => {
  const { enqueue, queueWriter, message, owed, lastDropped, finalKind } = setUp(2)
  const [first, second, third, fourth] = [message(), message(), message(), message()]
  await enqueue(queueWriter, [first, second])
  // The batch drops the first message before it reaches the redelivery of the same message.
  t.same(await enqueue(queueWriter, [third, first, fourth], [first]), ['queued', 'ended', 'queued'])
  t.same(await owed(), idsOf([third, fourth]))
  t.equal(await lastDropped(), 2)
  t.equal(await finalKind(third), undefined)
  // Another router gets the second message as a first delivery.
  t.same(await enqueue(queueWriter, [second]), ['ended'])
  t.same(await owed(), idsOf([third, fourth]))
  t.equal(await lastDropped(), 2)
})

t.test('two routers that enqueue for one device at once lose no message, and each keeps its order', async (t) => {
  const { healthy, partsOn, message, sim, owed, lastDropped } = setUp(100)
  const a = Array.from({ length: 8 }, () => message())
  const b = Array.from({ length: 8 }, () => message())
  const [first, second] = [partsOn(healthy).queueWriter, partsOn(sim.brokerFor('other')).queueWriter]
  await sim.clock.advanceUntil(Promise.all([first.enqueue(DEVICE, a, new Set()), second.enqueue(DEVICE, b, new Set())]))
  const found = await owed()
  t.same(new Set(found), new Set(idsOf([...a, ...b])))
  t.same(
    found.filter((id) => idsOf(a).includes(id)),
    idsOf(a),
    'the order of the first router',
  )
  t.equal(await lastDropped(), 0)
})
