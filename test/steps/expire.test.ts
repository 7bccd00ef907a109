/** expire by itself: what nobody is owed any more does not stay, wherever it stands. */
import t from 'tap'
import { ExpireStep } from '../../src/core/delivery/queue/expire.js'
import { silentLogger } from '../../src/observe/log.js'
import { EventLog } from '../../src/store/events.js'
import { ExpiryLog } from '../../src/store/expiry.js'
import { ParkedQueue } from '../../src/store/queue.js'
import { SimFabric } from '../sim/broker.js'
import { deviceName } from '../support/core.js'
import { storedMessage } from '../support/transport.js'

const DEVICE = deviceName(1)
const SPLIT = 1
const BUCKET_MS = 1_000

function setUp() {
  const sim = new SimFabric({ store: { split: SPLIT } })
  const { clock } = sim
  const fabric = sim.fabricFor('core')
  const queue = new ParkedQueue(fabric, SPLIT)
  const expiry = new ExpiryLog(fabric, BUCKET_MS)
  const events = new EventLog(fabric, SPLIT, 'test')
  const parts = { clock, log: silentLogger, events, expiry, queue }
  return {
    ...{ clock, fabric, queue, expiry, events },
    run: <T>(promise: Promise<T>) => clock.settle(promise),
    step: new ExpireStep({ ...parts, bucketMs: BUCKET_MS, lookBack: 1 }),
  }
}

t.test('a record that no walk reaches goes with its entry, one that is owed stays', async (t) => {
  const { clock, run, queue, expiry, events, step } = setUp()
  const append = async (id: bigint, after: number, lifeMs: number) => {
    // As a list of survivors leaves it whose deletes were cut off: nothing points to what is before.
    const message = { ...storedMessage(DEVICE, id), expiresAtMs: clock.now() + lifeMs }
    const record = { previous: 0, depth: 1, queue: 1n, dropped: 0, victims: [], parkedAtMs: clock.now(), older: [] }
    const sequence = await run(queue.append(DEVICE, { ...record, message }, after))
    await run(expiry.addParked(message, sequence, clock.now()))
    return sequence
  }
  const stray = await append(1n, 0, 2 * BUCKET_MS)
  const owed = await append(2n, stray, 3_600_000)
  step.start()
  await clock.run(10 * BUCKET_MS)
  await run(step.stop())
  t.equal(await run(queue.at(DEVICE, stray)), null)
  t.match(await run(events.readFinal(1n)), { kind: 'expired' })
  t.match(await run(queue.at(DEVICE, owed)), { record: { message: { id: 2n } } })
  t.equal(await run(events.readFinal(2n)), null)
})

t.test('what a core whose clock is behind parked, after it had expired, ends all the same', async (t) => {
  const { clock, run, fabric, queue, expiry, events, step } = setUp()
  step.start()
  await clock.run(300 * BUCKET_MS)
  const message = { ...storedMessage(DEVICE, 1n), expiresAtMs: clock.now() - 200 * BUCKET_MS }
  const slowMs = message.expiresAtMs - 5 * BUCKET_MS
  const record = { previous: 0, depth: 1, queue: 1n, dropped: 0, victims: [], parkedAtMs: slowMs, older: [] }
  const sequence = await run(queue.append(DEVICE, { ...record, message }, 0))
  await run(expiry.addParked(message, sequence, slowMs))
  await clock.run(3 * BUCKET_MS)
  await run(step.stop())
  t.match(await run(events.readFinal(1n)), { kind: 'expired' })
  t.equal(await run(queue.last(DEVICE)), null)
  t.equal((await run(fabric.log('EXPIRY').state())).messages, 0)
})
