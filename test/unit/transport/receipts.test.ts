/** Receipts of group messages: running totals that survive failed writes and forgotten messages. */
import t from 'tap'
import { BrokerError } from '../../../src/nats/broker.js'
import { ReceiptLog } from '../../../src/store/receipts.js'
import { Receipts } from '../../../src/transport/groups/receipts.js'
import { SimBroker } from '../../sim/broker.js'

const OWNER = { instance: 'i', worker: 'w' }
const MESSAGES_MAX = 10_000

function open() {
  const sim = new SimBroker()
  const log = new ReceiptLog(sim.brokerFor('worker'))
  const failures: unknown[] = []
  const state = { refuses: false }
  const refusing: Pick<ReceiptLog, 'write'> = {
    write: (id, receipt) =>
      state.refuses ? Promise.reject(new BrokerError('unavailable', 'refused')) : log.write(id, receipt),
  }
  const receipts = new Receipts(refusing, sim.clock, OWNER, (_, error) => failures.push(error))
  const sentOf = async (id: bigint) => {
    const found = await sim.clock.advanceUntil(log.read(id))
    return { records: found.length, sent: found.reduce((sum, { sent }) => sum + sent, 0) }
  }
  return { sim, receipts, sentOf, state, failures }
}

t.test('a message that is sent over thousands of seconds has one record of each worker, with the total', async (t) => {
  const { sim, receipts, sentOf } = open()
  for (let second = 0; second < 2_500; second++) {
    receipts.sent(7n, 2)
    await sim.clock.advance(1_000)
  }
  await sim.clock.advance(2_000)
  t.same(await sentOf(7n), { records: 1, sent: 5_000 })
})

t.test('a total that cannot be written is written later, and counts once', async (t) => {
  const { sim, receipts, sentOf, state, failures } = open()
  receipts.sent(7n, 3)
  state.refuses = true
  await sim.clock.advance(5_000)
  t.ok(failures.length > 1, 'it is tried again')
  receipts.sent(7n, 1)
  state.refuses = false
  await sim.clock.advance(5_000)
  t.same(await sentOf(7n), { records: 1, sent: 4 })
  await sim.clock.advanceUntil(receipts.stop())
})

t.test('a message whose total was forgotten begins a second record, and the sum stays exact', async (t) => {
  const { sim, receipts, sentOf } = open()
  receipts.sent(7n, 5)
  await sim.clock.advance(2_000)
  for (let n = 0; n < MESSAGES_MAX; n++) receipts.sent(100n + BigInt(n), 1)
  await sim.clock.advance(2_000)
  receipts.sent(7n, 6)
  await sim.clock.advance(2_000)
  t.same(await sentOf(7n), { records: 2, sent: 11 })
})
