/** Settlements: a worker asks the core to delete delivered messages from the queues, until the core confirms. */
import t from 'tap'
import { decodeSettleRequest, encodeSettleReply, type SettleItem } from '../../../protocol/envelope.js'
import { SETTLE_SUBJECT } from '../../../protocol/subjects.js'
import { Settlements } from '../../../src/transport/delivery/settlements.js'
import { WorkerMetrics } from '../../../src/transport/metrics.js'
import { SimBroker } from '../../sim/broker.js'

function settlementsOf(settlesMax = 100) {
  const sim = new SimBroker()
  const [worker, core] = [sim.brokerFor('worker'), sim.brokerFor('core')]
  const metrics = new WorkerMetrics()
  const settings = { instance: 'i', worker: 'w', settlesMax, settleRepeatMs: 1_000, timeoutMs: 2_000 }
  const givenUp: string[] = []
  const onGivenUp = (device: string) => void givenUp.push(device)
  const settlements = new Settlements(worker.bus, worker.clock, metrics, { ...settings, onError: () => {}, onGivenUp })
  /** Answers each request for settlement with the sequences that `confirm` returns. */
  const answer = (confirm: (items: SettleItem[]) => number[]) =>
    core.bus.subscribe(SETTLE_SUBJECT, ({ body, reply }) =>
      core.bus.publish(reply, encodeSettleReply(confirm(decodeSettleRequest(body).items))),
    )
  return { sim, metrics, settlements, givenUp, answer }
}

const sequencesOf = (items: SettleItem[]) => items.map(({ queueSequence }) => queueSequence)

const item = (id: bigint, queueSequence: number): SettleItem => ({
  ...{ id, device: 'd', project: 'p', application: 'a', queueSequence, atMs: 1 },
})

t.test('a settlement is repeated until it is confirmed', async (t) => {
  const { sim, metrics, settlements, answer } = settlementsOf()
  let refusesEleven = true
  answer((items) => sequencesOf(items).filter((sequence) => !(refusesEleven && sequence === 11)))
  await sim.clock.advance(100)
  for (const [id, sequence] of [
    [1n, 10],
    [2n, 11],
    [2n, 11],
    [3n, 10],
  ] as const)
    settlements.add(item(id, sequence))
  await sim.clock.advance(500)
  t.equal(settlements.size, 1, 'sequence 11 is not confirmed')
  refusesEleven = false
  await sim.clock.advance(3_000)
  t.equal(settlements.size, 0)
  t.equal(metrics.settled, 3)
  settlements.stop()
})

t.test('no request has a sequence twice: the same sequence of two streams goes in two requests', async (t) => {
  const { sim, settlements, answer } = settlementsOf()
  const requests: number[][] = []
  answer((items) => {
    requests.push(sequencesOf(items))
    return sequencesOf(items)
  })
  await sim.clock.advance(100)
  for (const [id, sequence] of [
    [1n, 10],
    [2n, 11],
    [2n, 11],
    [3n, 10],
  ] as const)
    settlements.add(item(id, sequence))
  await sim.clock.advance(500)
  t.same(requests.flat().sort(), [10, 10, 11])
  t.ok(requests.every((sequences) => new Set(sequences).size === sequences.length))
  settlements.stop()
})

t.test('a confirmed id is remembered for a while, because an earlier read may still show it', async (t) => {
  const { sim, settlements, answer } = settlementsOf()
  answer(sequencesOf)
  await sim.clock.advance(100)
  settlements.add(item(1n, 10))
  await sim.clock.advance(500)
  t.equal(settlements.size, 0, 'confirmed')
  t.ok(settlements.has(1n))
  await sim.clock.advance(60_000)
  t.notOk(settlements.has(1n))
  settlements.stop()
})

t.test('settlements that wait for a refused older one are given up, so that it gets its turn', async (t) => {
  // Found by the simulation, seed 1153.
  const { sim, settlements, givenUp, answer } = settlementsOf(2)
  const queue = [20, 21, 22]
  answer((items) => {
    const settled: number[] = []
    for (const sequence of sequencesOf(items).sort()) if (queue[0] === sequence) settled.push(queue.shift() ?? 0)
    return settled
  })
  await sim.clock.advance(100)
  t.same(
    [21, 22, 20].map((sequence) => settlements.add(item(BigInt(sequence), sequence))),
    [true, true, false],
  )
  await sim.clock.advance(3_000)
  t.same(givenUp, ['d', 'd'], 'the worker reads the queue of the device again')
  t.notOk(settlements.has(21n), 'the worker delivers the message again')
  for (const sequence of [20, 21, 22]) {
    t.ok(settlements.add(item(BigInt(sequence), sequence)))
    await sim.clock.advance(3_000)
  }
  t.same(queue, [])
  settlements.stop()
})

t.test('without a core, settlements wait up to settlesMax, and the rest are refused', async (t) => {
  const { sim, metrics, settlements, answer } = settlementsOf(3)
  t.same(
    [1, 2, 3, 4, 5].map((i) => settlements.add(item(BigInt(i), i))),
    [true, true, true, false, false],
  )
  await sim.clock.advance(5_000)
  t.equal(settlements.size, 3)
  t.equal(metrics.settlesRefused, 2)
  t.notOk(settlements.has(4n), 'the worker delivers the refused message again')
  const settled: bigint[] = []
  answer((items) => {
    settled.push(...items.map(({ id }) => id))
    return sequencesOf(items)
  })
  await sim.clock.advance(5_000)
  t.same(settled, [1n, 2n, 3n], 'those that waited are settled when a core is there')
  settlements.stop()
})
