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
      if (!claim.ok) throw new Error('the claim was refused')
      return { device, connection, revision: claim.revision } as Session
    },
    wait: async (ms: number) => {
      await run(new Promise<void>((resolve) => broker.clock.after(ms, resolve)))
      await run(tombstones.written())
    },
    lookup: (device: string) => run(sessions.lookup(device, { authoritative: true })),
  }
}

t.test('the end of a session is written after a delay, so that a ticket can resume it until then', async (t) => {
  const { tombstones, claim, wait, lookup, errors } = await setUp()
  const session = await claim('dev_a', 5)
  tombstones.add(session)
  await wait(DELAY_MS / 2)
  t.match(await lookup('dev_a'), { live: true, revision: session.revision }, 'not written yet')
  await wait(DELAY_MS)
  t.match(await lookup('dev_a'), { live: false, connection: 5 })
  tombstones.add(await claim('dev_a', 6))
  await wait(2 * DELAY_MS)
  t.match(await lookup('dev_a'), { live: false, connection: 6 }, 'the end of the next session too')
  t.same(errors, [])
})

t.test('the end of a session is not written if the device has reconnected', async (t) => {
  const { tombstones, claim, wait, lookup } = await setUp()
  tombstones.add(await claim('dev_a', 5))
  const newer = await claim('dev_a', 6)
  tombstones.dropOlder('dev_a', { connection: 5 })
  tombstones.dropOlder('dev_a', { connection: 6 })
  await wait(2 * DELAY_MS)
  t.match(await lookup('dev_a'), { live: true, revision: newer.revision })
})

t.test('of two ends of one device only the newer is written, after its own delay', async (t) => {
  const { tombstones, claim, wait, lookup } = await setUp()
  tombstones.add(await claim('dev_a', 5))
  tombstones.add(await claim('dev_b', 1))
  await wait(DELAY_MS / 2)
  tombstones.add(await claim('dev_a', 6))
  t.match(tombstones.fenceOf('dev_a'), { connection: 6 })
  await wait(0.7 * DELAY_MS)
  t.match(await lookup('dev_b'), { live: false }, 'the end of another device does not wait for it')
  t.match(await lookup('dev_a'), { live: true })
  await wait(DELAY_MS)
  t.match(await lookup('dev_a'), { live: false, connection: 6 })
})

t.test('the end of a session does not overwrite the session at another worker, and that is no error', async (t) => {
  const { tombstones, claim, wait, lookup, errors } = await setUp()
  tombstones.add(await claim('dev_a', 5))
  const elsewhere = await claim('dev_a', 6, 'there')
  await wait(2 * DELAY_MS)
  t.match(await lookup('dev_a'), { live: true, worker: 'there', revision: elsewhere.revision })
  t.same(errors, [])
})

t.test('beyond tombstonesWaitingMax the oldest end is written at once, and the others after the delay', async (t) => {
  const { tombstones, claim, wait, lookup } = await setUp(2)
  for (const device of ['dev_a', 'dev_b', 'dev_c']) tombstones.add(await claim(device, 1))
  await wait(DELAY_MS / 10)
  t.match(await lookup('dev_a'), { live: false })
  t.match(await lookup('dev_b'), { live: true })
  await wait(2 * DELAY_MS)
  t.match(await lookup('dev_b'), { live: false })
  t.match(await lookup('dev_c'), { live: false })
})

t.test('a worker that leaves writes no end of a session, because the end of its lease ends them all', async (t) => {
  const { tombstones, claim, wait, lookup } = await setUp()
  const session = await claim('dev_a', 5)
  tombstones.add(session)
  tombstones.leave()
  tombstones.add(await claim('dev_b', 1))
  await wait(2 * DELAY_MS)
  t.match(await lookup('dev_a'), { live: true, revision: session.revision })
  t.match(await lookup('dev_b'), { live: true })
})
