import t from 'tap'
import { decodeRxBatch, Report } from '../../../protocol/envelope.js'
import { rxSubject } from '../../../protocol/subjects.js'
import { Uplink } from '../../../src/transport/delivery/uplink.js'
import { SimBroker } from '../../sim/broker.js'

t.test('the reports of one tick leave in one batch for each router', async (t) => {
  const sim = new SimBroker()
  const [worker, core] = [sim.brokerFor('worker'), sim.brokerFor('core')]
  const uplink = new Uplink(worker.bus, worker.clock, {
    instance: 'i',
    worker: 'w',
    timeoutMs: 2_000,
    onError: () => {},
  })
  const batches: bigint[][] = []
  core.bus.subscribe(rxSubject('r1'), ({ body }) => batches.push(decodeRxBatch(body).items.map(({ id }) => id)))
  await sim.clock.advance(100)
  uplink.report('r1', 1n, 'd', Report.ACKED, 1)
  uplink.report('r2', 2n, 'd', Report.ACKED, 1)
  uplink.report('r1', 3n, 'd', Report.ACKED, 1)
  await sim.clock.advance(100)
  uplink.report('r1', 4n, 'd', Report.CLOSED, 1)
  await sim.clock.advance(100)
  t.same(batches, [[1n, 3n], [4n]])
})
