import t from 'tap'
import { Bucket } from '../../../protocol/subjects.js'
import { SessionTable } from '../../../src/store/sessions.js'
import type { Session } from '../../../src/transport/session/session.js'
import { Tombstones } from '../../../src/transport/session/tombstones.js'
import { SimBroker } from '../../sim/broker.js'

const DELAY_MS = 1_000
const HERE = { instance: 'i', worker: 'here' }

async function setUp(tombstonesWaitingMax = 10) {
  const sim = new SimBroker()
  const { clock } = sim
  const broker = sim.brokerFor('worker')
  const sessions = new SessionTable(broker.table(Bucket.SESSIONS), broker.clock)
  const errors: unknown[] = []
  const pace = { tombstoneDelayMs: DELAY_MS, tombstonesWaitingMax }
  const tombstones = new Tombstones(sessions, HERE, broker.clock, pace, (_, error) => errors.push(error))
  const run = <T>(promise: Promise<T>) => clock.advanceUntil(promise)
  return {
    ...{ tombstones, errors },
    claim: async (device: string, connection: number, worker = HERE.worker) => {
      const claim = await run(sessions.claim(device, { instance: 'i', worker, connection }))
      if (!claim.ok) throw new Error('refused')
      return { device, connection, revision: claim.revision } as Session
    },
    wait: async (ms: number) => {
      await run(new Promise<void>((resolve) => broker.clock.after(ms, resolve)))
      await run(tombstones.written())
    },
    look: (device: string) => run(sessions.lookup(device, { authoritative: true })),
  }
}

t.test('the end of a session is written late', async (t) => {
  const { tombstones, claim, wait, look, errors } = await setUp()
  const session = await claim('dev_a', 5)
  tombstones.add(session)
  await wait(DELAY_MS / 2)
  t.match(await look('dev_a'), { live: true, revision: session.revision }, 'a ticket of it can be used as it is')
  await wait(DELAY_MS)
  t.match(await look('dev_a'), { live: false, connection: 5 })
  tombstones.add(await claim('dev_a', 6))
  await wait(2 * DELAY_MS)
  t.match(await look('dev_a'), { live: false, connection: 6 }, 'and so the next one')
  t.same(errors, [])
})

t.test('not at all where the device is back', async (t) => {
  const { tombstones, claim, wait, look } = await setUp()
  tombstones.add(await claim('dev_a', 5))
  const back = await claim('dev_a', 6)
  tombstones.dropOlder('dev_a', { connection: 5 })
  tombstones.dropOlder('dev_a', { connection: 6 })
  await wait(2 * DELAY_MS)
  t.match(await look('dev_a'), { live: true, revision: back.revision })
})

t.test('of two ends of a device the newer one is written, and counts from its own time', async (t) => {
  const { tombstones, claim, wait, look } = await setUp()
  tombstones.add(await claim('dev_a', 5))
  tombstones.add(await claim('dev_b', 1))
  await wait(DELAY_MS / 2)
  tombstones.add(await claim('dev_a', 6))
  t.match(tombstones.fenceOf('dev_a'), { connection: 6 })
  await wait(0.7 * DELAY_MS)
  t.match(await look('dev_b'), { live: false }, 'it does not stand behind the other one')
  t.match(await look('dev_a'), { live: true })
  await wait(DELAY_MS)
  t.match(await look('dev_a'), { live: false, connection: 6 })
})

t.test('never over what another worker wrote', async (t) => {
  const { tombstones, claim, wait, look, errors } = await setUp()
  tombstones.add(await claim('dev_a', 5))
  const elsewhere = await claim('dev_a', 6, 'there')
  await wait(2 * DELAY_MS)
  t.match(await look('dev_a'), { live: true, worker: 'there', revision: elsewhere.revision })
  t.same(errors, [], 'which is no error')
})

t.test('a bounded number waits: beyond, the oldest is written at once', async (t) => {
  const { tombstones, claim, wait, look } = await setUp(2)
  for (const device of ['dev_a', 'dev_b', 'dev_c']) tombstones.add(await claim(device, 1))
  await wait(DELAY_MS / 10)
  t.match(await look('dev_a'), { live: false })
  t.match(await look('dev_b'), { live: true })
  await wait(2 * DELAY_MS)
  t.match(await look('dev_b'), { live: false })
  t.match(await look('dev_c'), { live: false })
})

t.test('a worker that leaves writes nothing: its lease speaks for all', async (t) => {
  const { tombstones, claim, wait, look } = await setUp()
  const session = await claim('dev_a', 5)
  tombstones.add(session)
  tombstones.leave()
  tombstones.add(await claim('dev_b', 1))
  await wait(2 * DELAY_MS)
  t.match(await look('dev_a'), { live: true, revision: session.revision })
  t.match(await look('dev_b'), { live: true })
})
