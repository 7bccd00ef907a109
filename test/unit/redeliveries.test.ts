/** The deliveries that a router takes for repeated. */
import t from 'tap'
import type { Target } from '../../src/core/delivery/route/inflight.js'
import { Redeliveries } from '../../src/core/delivery/route/redeliveries.js'
import type { Delivery } from '../../src/nats/broker.js'

const delivery = (sequence: number, storedAtMs: number, deliveryCount = 1) =>
  ({ sequence, storedAtMs, deliveryCount }) as Delivery
const repeats = (nowMs = 0) =>
  new Redeliveries({ now: () => nowMs, steadyMs: () => nowMs, after: () => () => undefined }, 30_000)

t.test('a second delivery is repeated, also if the server counts it as the first', async (t) => {
  const seen = repeats()
  t.equal(seen.isRedelivery(delivery(1, 100)), false)
  t.equal(seen.isRedelivery(delivery(2, 100)), false, 'another sequence of the same time')
  t.equal(seen.isRedelivery(delivery(1, 100)), true, 'delivered again by a server that was killed, with count 1')
  t.equal(seen.isRedelivery(delivery(3, 200, 2)), true, 'delivered before to another router')
})

t.test('when a stream lost its end and reuses a sequence, a record stored later is not repeated', async (t) => {
  const seen = repeats()
  for (const sequence of [1, 2, 3]) seen.isRedelivery(delivery(sequence, 100))
  t.equal(seen.isRedelivery(delivery(1, 500)), false)
  t.equal(seen.isRedelivery(delivery(2, 100)), false, 'forgotten; EVENTS still refuses a second end')
  t.equal(seen.isRedelivery(delivery(1, 500)), true)
})

t.test('a message stored half an ack wait before or after now may be in flight at another router', async (t) => {
  const mayBeElsewhere = (nowMs: number, redelivered = false) =>
    repeats(nowMs).mayBeElsewhere({ redelivered, delivery: delivery(1, 100_000) } as Target)
  t.equal(mayBeElsewhere(101_000), false)
  t.equal(mayBeElsewhere(116_000), true)
  t.equal(mayBeElsewhere(84_000), true, 'the clocks disagree, so the age is unknown')
  t.equal(mayBeElsewhere(101_000, true), true, 'redelivered')
})
