/** A process that dies between two deletes of one queue: what it leaves is a shorter queue, never a lost end of it. */
import t from 'tap'
import { DeviceQueue } from '../../src/store/queue.js'
import { SimBroker } from '../sim/broker.js'
import { deviceName } from '../support/core.js'
import { storedMessage } from '../support/transport.js'

const DEVICE = deviceName(1)
const SPLIT = 1
const IDS = [1n, 2n, 3n, 4n]

for (const survivors of IDS.keys()) {
  t.test(
    `killed when ${survivors} of ${IDS.length} records are left: they are found, and taken out later`,
    async (t) => {
      // As nats-server 2.9 does it: who deletes a subject's newest record hides the older ones from every walk.
      const sim = new SimBroker({ store: { split: SPLIT }, faults: { forgetsOlder: true } })
      const run = <T>(promise: Promise<T>) => sim.clock.advanceUntil(promise)
      const toDelete = sim.brokerFor('core-1')
      const queue = new DeviceQueue(toDelete, SPLIT)
      let previous = 0
      for (const [index, id] of IDS.entries()) {
        const record = { previous, depth: index + 1, queue: 1n, dropped: 0, evicted: [], queuedAtMs: 1, older: [] }
        previous = await run(queue.append(DEVICE, { ...record, message: storedMessage(DEVICE, id) }, previous))
      }
      let deletes = 0
      sim.server.observe = (what) => {
        if (what === 'core-1 deletes' && ++deletes === IDS.length - survivors) toDelete.crash()
      }
      // Never answered: its process is gone.
      void queue.remove(DEVICE, new Set(IDS), 1)
      await sim.clock.advance(60_000)
      t.equal(deletes, IDS.length - survivors)

      const next = new DeviceQueue(sim.brokerFor('core-2'), SPLIT)
      const found = await run(next.walk(DEVICE))
      t.same(
        found.map((entry) => entry.record.message.id),
        IDS.slice(IDS.length - survivors),
      )
      await run(next.remove(DEVICE, new Set(IDS), 1))
      t.equal(sim.server.stream('QUEUE_0').state().messages, 0)
    },
  )
}

t.test('what was dropped and came back with a killed server holds up nobody behind it', async (t) => {
  const sim = new SimBroker({ store: { split: SPLIT } })
  const run = <T>(promise: Promise<T>) => sim.clock.advanceUntil(promise)
  const queue = new DeviceQueue(sim.brokerFor('core'), SPLIT)
  const items: { sequence: number; id: bigint }[] = []
  for (const [index, id] of IDS.entries()) {
    const previous = items.at(-1)?.sequence ?? 0
    const record = { previous, depth: index + 1, queue: 1n, dropped: 1, queuedAtMs: 1, older: [] }
    const evicted = id === IDS.at(-1) ? [1n] : []
    const message = storedMessage(DEVICE, id)
    items.push({ id, sequence: await run(queue.append(DEVICE, { ...record, evicted, message }, previous)) })
  }
  // The first one is shown to nobody, and so nobody settles it.
  const shown = await run(queue.walk(DEVICE))
  t.same(
    shown.map((entry) => entry.record.message.id),
    IDS.slice(1),
  )
  const settled = await run(queue.settle(DEVICE, items.slice(1), 1, async (id) => id === 1n))
  t.same(
    settled,
    items.slice(1).map((item) => item.sequence),
  )
  t.equal(sim.server.stream('QUEUE_0').state().messages, 0)
})

t.test('a sequence that a store used again after it lost its end is not taken for the record before it', async (t) => {
  const sim = new SimBroker({ store: { split: SPLIT } })
  const run = <T>(promise: Promise<T>) => sim.clock.advanceUntil(promise)
  const queue = new DeviceQueue(sim.brokerFor('core'), SPLIT)
  const record = { previous: 0, depth: 1, queue: 2n, dropped: 0, evicted: [], queuedAtMs: 1, older: [] }
  const sequence = await run(queue.append(DEVICE, { ...record, message: storedMessage(DEVICE, 2n) }, 0))
  t.same(
    await run(queue.settle(DEVICE, [{ sequence, id: 1n }], 1, async () => false)),
    [sequence],
    'of the one before nothing is left',
  )
  t.match(await run(queue.last(DEVICE)), { record: { message: { id: 2n } } })
})
