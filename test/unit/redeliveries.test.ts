/** Which deliveries a router takes for the first of their message. */
import t from 'tap'
import type { Target } from '../../src/core/delivery/route/inflight.js'
import { Repeats } from '../../src/core/delivery/route/redeliveries.js'
import type { Delivery } from '../../src/nats/broker.js'

const delivery = (sequence: number, storedAtMs: number, deliveryCount = 1) =>
  ({ sequence, storedAtMs, deliveryCount }) as Delivery
const repeats = (nowMs = 0) => new Repeats({ now: () => nowMs, after: () => () => undefined }, 30_000)

t.test('what comes again is repeated, whatever the server calls it', async (t) => {
  const seen = repeats()
  t.equal(seen.isRepeated(delivery(1, 100)), false)
  t.equal(seen.isRepeated(delivery(2, 100)), false, 'stored in the same moment')
  t.equal(seen.isRepeated(delivery(1, 100)), true, 'brought back by a server that was killed')
  t.equal(seen.isRepeated(delivery(3, 200, 2)), true, 'of a router before this one')
})

t.test('a stream that lost its end gives sequences again: what is stored later is new', async (t) => {
  const seen = repeats()
  for (const sequence of [1, 2, 3]) seen.isRepeated(delivery(sequence, 100))
  t.equal(seen.isRepeated(delivery(1, 500)), false)
  t.equal(seen.isRepeated(delivery(2, 100)), false, 'not known any more; EVENTS tells')
  t.equal(seen.isRepeated(delivery(1, 500)), true)
})

t.test('a message as old as half an ack wait may be with another router, by either sign of a difference', async (t) => {
  const old = (nowMs: number, redelivered = false) =>
    repeats(nowMs).isPerhapsElsewhere({ redelivered, delivery: delivery(1, 100_000) } as Target)
  t.equal(old(101_000), false)
  t.equal(old(116_000), true)
  t.equal(old(84_000), true, 'clocks that disagree say nothing')
  t.equal(old(101_000, true), true)
})
