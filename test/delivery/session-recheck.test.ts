/** The second look of enqueuing by itself: what counts as seen, when the table or the worker does not answer as hoped. */
import t from 'tap'
import { Bucket } from '../../protocol/subjects.js'
import { SessionRecheck } from '../../src/core/delivery/route/session-recheck.js'
import { SessionTable } from '../../src/store/sessions.js'
import { deviceName } from '../support/core.js'
import { SimInstallation } from '../support/sim-core.js'

const DEVICE = deviceName(1)
const STALE_MS = 10_000

/** A core whose workers are never taken for dead. */
function lookingCore(place: SimInstallation) {
  const core = place.sim.brokerFor('core')
  const sessions = new SessionTable(core.table(Bucket.SESSIONS), core.clock)
  return { core, look: new SessionRecheck(core.bus, sessions, { isDead: () => false }, 300) }
}

t.test('no session at all: whoever writes one reads the queue', async (t) => {
  const place = new SimInstallation()
  const { look } = lookingCore(place)
  t.equal(await place.run(look.isSeen(DEVICE)), true)
})

t.test('a table that can not be read says nothing about a device', async (t) => {
  const place = new SimInstallation()
  const { core, look } = lookingCore(place)
  core.cutOff()
  t.equal(await place.run(look.isSeen(DEVICE)), false, 'refused at once')
  await place.sim.clock.run(60_000)
  t.equal(await place.run(look.isSeen(DEVICE)), true, 'connected again')
  const asked = look.isSeen(DEVICE)
  core.cutOff()
  t.equal(await place.run(asked), false, 'the answer was lost')
})

t.test('a session written a moment ago is seen, however far behind the replicas are', async (t) => {
  const place = new SimInstallation({ faults: { staleRead: 1, staleMs: [STALE_MS, STALE_MS] } })
  const { core, look } = lookingCore(place)
  const worker = place.worker()
  await place.run(worker.connect(DEVICE))
  const replica = new SessionTable(core.table(Bucket.SESSIONS), core.clock)
  t.equal(await place.run(replica.lookup(DEVICE, { authoritative: false })), null, 'a replica has not heard of it')
  worker.onCatchUp = () => 'silent'
  t.equal(await place.run(look.isSeen(DEVICE)), false, 'its worker says nothing')
  worker.onCatchUp = () => 'here'
  t.equal(await place.run(look.isSeen(DEVICE)), true)
  t.same(worker.asked, [DEVICE, DEVICE])
})
