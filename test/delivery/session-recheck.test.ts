/** The recheck of the session after a message is queued, when the session table or the worker does not answer. */
import t from 'tap'
import { Bucket } from '../../protocol/subjects.js'
import { SessionRecheck } from '../../src/core/delivery/route/session-recheck.js'
import { SessionTable } from '../../src/store/sessions.js'
import { deviceName } from '../support/core.js'
import { SimInstallation } from '../support/sim-core.js'

const DEVICE = deviceName(1)
const STALE_MS = 10_000

/** A core that regards no worker as dead, and the recheck on its connection. */
function coreWithRecheck(world: SimInstallation) {
  const core = world.sim.brokerFor('core')
  const sessions = new SessionTable(core.table(Bucket.SESSIONS), core.clock)
  return { core, recheck: new SessionRecheck(core.bus, sessions, { isDead: () => false }, 300) }
}

t.test(
  'a message to a device without a session counts as seen: the worker that writes one reads the queue',
  async (t) => {
    const world = new SimInstallation()
    const { recheck } = coreWithRecheck(world)
    t.equal(await world.advanceUntil(recheck.isSeen(DEVICE)), true)
  },
)

t.test('a message counts as not seen while the session table cannot be read', async (t) => {
  const world = new SimInstallation()
  const { core, recheck } = coreWithRecheck(world)
  core.cutOff()
  t.equal(await world.advanceUntil(recheck.isSeen(DEVICE)), false, 'cut off before the request')
  await world.sim.clock.advance(60_000)
  t.equal(await world.advanceUntil(recheck.isSeen(DEVICE)), true, 'connected again')
  const answer = recheck.isSeen(DEVICE)
  core.cutOff()
  t.equal(await world.advanceUntil(answer), false, 'cut off before the answer')
})

t.test('a session written a moment ago is found although the replicas lag, and its worker is asked', async (t) => {
  const world = new SimInstallation({ faults: { staleRead: 1, staleMs: [STALE_MS, STALE_MS] } })
  const { core, recheck } = coreWithRecheck(world)
  const worker = world.worker()
  await world.advanceUntil(worker.connect(DEVICE))
  const replica = new SessionTable(core.table(Bucket.SESSIONS), core.clock)
  t.equal(
    await world.advanceUntil(replica.lookup(DEVICE, { authoritative: false })),
    null,
    'a replica does not have it yet',
  )
  worker.onCatchUp = () => 'silent'
  t.equal(await world.advanceUntil(recheck.isSeen(DEVICE)), false, 'its worker does not answer')
  worker.onCatchUp = () => 'here'
  t.equal(await world.advanceUntil(recheck.isSeen(DEVICE)), true)
  t.same(worker.catchUpsAsked, [DEVICE, DEVICE])
})
