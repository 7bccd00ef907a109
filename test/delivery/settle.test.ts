/** The settle step alone: it confirms no item, and deletes no record, before the final event of the item is stored. */
import t from 'tap'
import type { SettleItem } from '../../protocol/envelope.js'
import { SettleStep } from '../../src/core/delivery/queue/settle.js'
import { CoreMetrics } from '../../src/core/metrics.js'
import { BrokerError } from '../../src/nats/broker.js'
import { silentLogger } from '../../src/observe/log.js'
import { EventLog } from '../../src/store/events.js'
import { DeviceQueue } from '../../src/store/queue.js'
import { SimBroker } from '../sim/broker.js'
import { deviceName } from '../support/core.js'
import { overriding } from '../support/overriding.js'
import { storedMessage } from '../support/transport.js'

const DEVICE = deviceName(1)
const SPLIT = 1

t.test('a record whose final event is refused stays and is not confirmed, until a repeat succeeds', async (t) => {
  const sim = new SimBroker({ store: { split: SPLIT } })
  const advanceUntil = <T>(promise: Promise<T>) => sim.clock.advanceUntil(promise)
  const broker = sim.brokerFor('core')
  const queue = new DeviceQueue(broker, SPLIT)
  const items: SettleItem[] = []
  for (const id of [1n, 2n]) {
    const previous = items.at(-1)?.queueSequence ?? 0
    const record = { previous, depth: items.length + 1, queue: 1n, dropped: 0, evicted: [], queuedAtMs: 1, older: [] }
    const queueSequence = await advanceUntil(
      queue.append(DEVICE, { ...record, message: storedMessage(DEVICE, id) }, previous),
    )
    items.push({ id, device: DEVICE, project: 'p', application: 'app', queueSequence, atMs: 1 })
  }
  const events = new EventLog(broker, SPLIT, 'test')
  const refused = new Set([2n])
  const refusing = overriding(events, {
    finalOfQueued: (id, event) =>
      refused.has(id) ? Promise.reject(new BrokerError('unavailable', 'refused')) : events.finalOfQueued(id, event),
  })
  const metrics = new CoreMetrics()
  const parts = { bus: broker.bus, clock: broker.clock, log: silentLogger, metrics, inFlightMax: 10 }
  const settle = new SettleStep({ ...parts, events: refusing, queue })

  t.same(await advanceUntil(settle.settle(items)), [items[0]?.queueSequence])
  const left = await advanceUntil(queue.walk(DEVICE))
  t.same(
    left.map((entry) => entry.record.message.id),
    [2n],
  )
  t.equal(await advanceUntil(events.readFinal(2n)), null)

  refused.clear()
  t.same(
    await advanceUntil(settle.settle(items)),
    items.map((item) => item.queueSequence),
    'the repeat',
  )
  t.same(await advanceUntil(queue.walk(DEVICE)), [])
  t.match(await advanceUntil(events.readFinal(2n)), { kind: 'delivered' })
})

for (const [kind, isHeldUp] of [
  ['collapsed', false],
  ['dropped', true],
] as const) {
  const result = isHeldUp ? 'blocks the records after it until it is counted' : 'blocks no record after it'
  t.test(`a queued record that ended as ${kind} and is not evicted yet ${result}`, async (t) => {
    const sim = new SimBroker({ store: { split: SPLIT } })
    const advanceUntil = <T>(promise: Promise<T>) => sim.clock.advanceUntil(promise)
    const broker = sim.brokerFor('core')
    const queue = new DeviceQueue(broker, SPLIT)
    const events = new EventLog(broker, SPLIT, 'test')
    const base = { dropped: 0, evicted: [], queuedAtMs: 1, queue: 1n, older: [] }
    const first = { ...base, previous: 0, depth: 1, message: storedMessage(DEVICE, 1n) }
    const before = await advanceUntil(queue.append(DEVICE, first, 0))
    const second = { ...base, previous: before, depth: 2, message: storedMessage(DEVICE, 2n) }
    const queueSequence = await advanceUntil(queue.append(DEVICE, second, before))
    const place = { device: DEVICE, project: 'p', application: 'app', atMs: 1 }
    await advanceUntil(events.final(1n, { ...place, kind, reason: '' }))
    const parts = { bus: broker.bus, clock: broker.clock, log: silentLogger, metrics: new CoreMetrics() }
    const settle = new SettleStep({ ...parts, inFlightMax: 10, events, queue })
    const confirmed = await advanceUntil(settle.settle([{ ...place, id: 2n, queueSequence }]))
    t.same(confirmed, isHeldUp ? [] : [queueSequence])
    t.equal((await advanceUntil(queue.walk(DEVICE))).length, isHeldUp ? 2 : 0)
  })
}
