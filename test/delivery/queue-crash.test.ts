/** A process that dies between two deletes in the queue of a device leaves a shorter queue that the next one can read. */
import t from 'tap'
import { DeviceQueue } from '../../src/store/queue.js'
import { SimBroker } from '../sim/broker.js'
import { deviceName } from '../support/core.js'
import { storedMessage } from '../support/transport.js'

const DEVICE = deviceName(1)
const SPLIT = 1
const IDS = [1n, 2n, 3n, 4n]

for (const survivors of IDS.keys()) {
  t.test(`after a kill with ${survivors} of ${IDS.length} records left, the next process deletes them`, async (t) => {
    // As in nats-server 2.9, the delete of the newest record of a subject hides the older ones from each walk.
    const sim = new SimBroker({ store: { split: SPLIT }, faults: { forgetsOlder: true } })
    const advanceUntil = <T>(promise: Promise<T>) => sim.clock.advanceUntil(promise)
    const crashing = sim.brokerFor('core-1')
    const queue = new DeviceQueue(crashing, SPLIT)
    let previous = 0
    for (const [index, id] of IDS.entries()) {
      const record = { previous, depth: index + 1, queue: 1n, dropped: 0, evicted: [], queuedAtMs: 1, older: [] }
      previous = await advanceUntil(queue.append(DEVICE, { ...record, message: storedMessage(DEVICE, id) }, previous))
    }
    let deletes = 0
    sim.server.observe = (operation) => {
      if (operation === 'core-1 deletes' && ++deletes === IDS.length - survivors) crashing.crash()
    }
    // The promise never settles, because the process is gone.
    void queue.remove(DEVICE, new Set(IDS), 1)
    await sim.clock.advance(60_000)
    t.equal(deletes, IDS.length - survivors)

    const next = new DeviceQueue(sim.brokerFor('core-2'), SPLIT)
    const found = await advanceUntil(next.walk(DEVICE))
    t.same(
      found.map((entry) => entry.record.message.id),
      IDS.slice(IDS.length - survivors),
    )
    await advanceUntil(next.remove(DEVICE, new Set(IDS), 1))
    t.equal(sim.server.stream('QUEUE_0').state().messages, 0)
  })
}

t.test('a dropped record that a killed server brought back does not block the records after it', async (t) => {
  const sim = new SimBroker({ store: { split: SPLIT } })
  const advanceUntil = <T>(promise: Promise<T>) => sim.clock.advanceUntil(promise)
  const queue = new DeviceQueue(sim.brokerFor('core'), SPLIT)
  const items: { sequence: number; id: bigint }[] = []
  for (const [index, id] of IDS.entries()) {
    const previous = items.at(-1)?.sequence ?? 0
    const record = { previous, depth: index + 1, queue: 1n, dropped: 1, queuedAtMs: 1, older: [] }
    const evicted = id === IDS.at(-1) ? [1n] : []
    const message = storedMessage(DEVICE, id)
    items.push({ id, sequence: await advanceUntil(queue.append(DEVICE, { ...record, evicted, message }, previous)) })
  }
  // No walk shows the first record, so no device acknowledges it.
  const shown = await advanceUntil(queue.walk(DEVICE))
  t.same(
    shown.map((entry) => entry.record.message.id),
    IDS.slice(1),
  )
  const settled = await advanceUntil(queue.settle(DEVICE, items.slice(1), 1, async (id) => id === 1n))
  t.same(
    settled,
    items.slice(1).map((item) => item.sequence),
  )
  t.equal(sim.server.stream('QUEUE_0').state().messages, 0)
})

t.test('settling a record whose sequence the store has reused leaves the newer record in the queue', async (t) => {
  const sim = new SimBroker({ store: { split: SPLIT } })
  const advanceUntil = <T>(promise: Promise<T>) => sim.clock.advanceUntil(promise)
  const queue = new DeviceQueue(sim.brokerFor('core'), SPLIT)
  const record = { previous: 0, depth: 1, queue: 2n, dropped: 0, evicted: [], queuedAtMs: 1, older: [] }
  const sequence = await advanceUntil(queue.append(DEVICE, { ...record, message: storedMessage(DEVICE, 2n) }, 0))
  t.same(
    await advanceUntil(queue.settle(DEVICE, [{ sequence, id: 1n }], 1, async () => false)),
    [sequence],
    'the earlier record is gone, so its settlement is confirmed',
  )
  t.match(await advanceUntil(queue.last(DEVICE)), { record: { message: { id: 2n } } })
})
