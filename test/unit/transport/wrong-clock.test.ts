/** A worker on a machine whose clock is an hour off, and set while it runs: no message notices. On virtual time. */
import t from 'tap'
import { decodeRxBatch, encodeTxBatch, Report } from '../../../protocol/envelope.js'
import { rxSubject, txSubject } from '../../../protocol/subjects.js'
import type { Broker } from '../../../src/nats/broker.js'
import type { SimClient } from '../../sim/client.js'
import { notifyFrame } from '../../support/transport.js'
import { oneWorker } from './one-worker.js'
import { groupIds, groupsOf } from './one-worker-groups.js'

const HOUR_MS = 3_600_000

for (const skewMs of [HOUR_MS, -HOUR_MS]) {
  const withSkew = (broker: Broker) => Object.assign(broker as SimClient, { skewMs })
  const side = skewMs > 0 ? 'ahead' : 'behind'

  t.test(`an hour ${side}: WELCOME has the time of the store, and the queue of the device is sent`, async (t) => {
    const stage = await oneWorker({ over: withSkew })
    const { clock } = stage
    await clock.advanceUntil(stage.enqueue(1n))
    const phone = stage.connect()
    await clock.advance(1_000)
    const [welcome] = phone.frames
    const serverTimeMs = welcome?.type === 'WELCOME' ? welcome.serverTimeMs : 0
    t.ok(Math.abs(serverTimeMs - clock.now()) < 1_100, `off by ${serverTimeMs - clock.now()} ms`)
    t.equal(phone.ofType('NOTIFY'), 1)
    await stage.stop()
  })

  t.test(
    `an hour ${side}: a group message of ten seconds is sent live and in catch-up, until it is over`,
    async (t) => {
      const stage = await oneWorker({ over: withSkew })
      const { clock } = stage
      const groups = groupsOf(stage)
      await groups.subscribe('a')
      const live = stage.connect()
      await clock.advance(1_000)
      await groups.send('a', 1n, 10_000)
      await groups.send('a', 2n, 0)
      await clock.advance(1_000)
      t.same(groupIds(live), [1n, 2n])
      live.end.close()
      const late = stage.connect(null, stage.device, 2)
      await clock.advance(1_000)
      t.same(groupIds(late), [1n], 'a message with a ttl of 0 is not sent in catch-up')
      late.end.close()
      await clock.advance(10_000)
      const tooLate = stage.connect(null, stage.device, 3)
      await clock.advance(1_000)
      t.same(groupIds(tooLate), [])
      await stage.stop()
    },
  )

  t.test(
    `set an hour ${side} while an item is held: it ends after its lifetime, whatever the clock says`,
    async (t) => {
      const stage = await oneWorker()
      const { clock, broker, worker, core, device } = stage
      const reports: { id: bigint; report: number }[] = []
      core.bus.subscribe(rxSubject('r'), ({ body }) => void reports.push(...decodeRxBatch(body).items))
      const phone = stage.connect()
      await clock.advance(1_000)
      broker.skewMs = skewMs
      const atMs = clock.now()
      const item = (id: bigint, leftMs: number) => {
        return { id, device, expiresAtMs: atMs + leftMs, frame: notifyFrame(id) }
      }
      const { instance, worker: name } = worker.owner
      const body = encodeTxBatch({ router: 'r', atMs, items: [item(1n, 3_000), item(2n, 0)] })
      core.bus.publish(txSubject(instance, name), body)
      await clock.advance(1_000)
      t.equal(phone.ofType('NOTIFY'), 1)
      t.match(reports, [{ id: 2n, report: Report.EXPIRED }])
      await stage.stop()
    },
  )
}
