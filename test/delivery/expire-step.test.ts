/** The expire step alone, on queue records that other parts left in unusual states. */
import t from 'tap'
import { ExpireStep } from '../../src/core/delivery/queue/expire.js'
import { silentLogger } from '../../src/observe/log.js'
import { EventLog } from '../../src/store/events.js'
import { ExpiryLog } from '../../src/store/expiry.js'
import { DeviceQueue } from '../../src/store/queue.js'
import { SimBroker } from '../sim/broker.js'
import { deviceName } from '../support/core.js'
import { storedMessage } from '../support/transport.js'

const DEVICE = deviceName(1)
const SPLIT = 1
const BUCKET_MS = 1_000

function setUp() {
  const sim = new SimBroker({ store: { split: SPLIT } })
  const { clock } = sim
  const broker = sim.brokerFor('core')
  const queue = new DeviceQueue(broker, SPLIT)
  const expiry = new ExpiryLog(broker, BUCKET_MS)
  const events = new EventLog(broker, SPLIT, 'test')
  const parts = { clock, log: silentLogger, events, expiry, queue }
  return {
    ...{ clock, broker, queue, expiry, events },
    advanceUntil: <T>(promise: Promise<T>) => clock.advanceUntil(promise),
    step: new ExpireStep({ ...parts, bucketMs: BUCKET_MS, lookBack: 1 }),
  }
}

t.test('an expired record that no walk reaches is deleted through EXPIRY; an unexpired one stays', async (t) => {
  const { clock, advanceUntil, queue, expiry, events, step } = setUp()
  const append = async (id: bigint, after: number, lifeMs: number) => {
    // `previous` is 0, so no record points to an earlier one, as in a queue whose deletes were interrupted.
    const message = { ...storedMessage(DEVICE, id), expiresAtMs: clock.now() + lifeMs }
    const record = { previous: 0, depth: 1, queue: 1n, dropped: 0, evicted: [], queuedAtMs: clock.now(), older: [] }
    const sequence = await advanceUntil(queue.append(DEVICE, { ...record, message }, after))
    await advanceUntil(expiry.addQueued(message, sequence, clock.now()))
    return sequence
  }
  const stray = await append(1n, 0, 2 * BUCKET_MS)
  const owed = await append(2n, stray, 3_600_000)
  step.start()
  await clock.advance(10 * BUCKET_MS)
  await advanceUntil(step.stop())
  t.equal(await advanceUntil(queue.at(DEVICE, stray)), null)
  t.match(await advanceUntil(events.readFinal(1n)), { kind: 'expired' })
  t.match(await advanceUntil(queue.at(DEVICE, owed)), { record: { message: { id: 2n } } })
  t.equal(await advanceUntil(events.readFinal(2n)), null)
})

t.test('a message queued after its expiry, by a core with a slow clock, ends as expired', async (t) => {
  const { clock, advanceUntil, broker, queue, expiry, events, step } = setUp()
  step.start()
  await clock.advance(300 * BUCKET_MS)
  const message = { ...storedMessage(DEVICE, 1n), expiresAtMs: clock.now() - 200 * BUCKET_MS }
  const slowMs = message.expiresAtMs - 5 * BUCKET_MS
  const record = { previous: 0, depth: 1, queue: 1n, dropped: 0, evicted: [], queuedAtMs: slowMs, older: [] }
  const sequence = await advanceUntil(queue.append(DEVICE, { ...record, message }, 0))
  await advanceUntil(expiry.addQueued(message, sequence, slowMs))
  await clock.advance(3 * BUCKET_MS)
  await advanceUntil(step.stop())
  t.match(await advanceUntil(events.readFinal(1n)), { kind: 'expired' })
  t.equal(await advanceUntil(queue.last(DEVICE)), null)
  t.equal((await advanceUntil(broker.log('EXPIRY').state())).messages, 0)
})
