/** The end of queued messages with a short life, on virtual time. */
import t from 'tap'
import { deviceName, messageTo } from '../support/core.js'
import { SimInstallation } from '../support/sim-core.js'

/** Long enough that the expire step itself would come much later. */
const BUCKET_MS = 600_000
const TTL_MS = 3_000

t.test(
  'a queued message with a ttl of three seconds ends within a second after it, and leaves the queue',
  async (t) => {
    const world = new SimInstallation()
    const core = await world.core({ expiryBucketMs: BUCKET_MS })
    const device = deviceName(1)
    const { id, expiresAtMs } = await world.advanceUntil(core.accept(messageTo([device], { ttlMs: TTL_MS })))
    await world.advanceUntil(core.acknowledged(device, id))
    t.equal((await world.advanceUntil(core.queue.walk(device))).length, 1)
    await world.sim.clock.advance(expiresAtMs - world.sim.clock.now() - 1)
    t.equal(await world.advanceUntil(core.events.readFinal(id)), null, 'not before')
    await world.sim.clock.advance(1_500)
    t.match(await world.advanceUntil(core.events.readFinal(id)), { kind: 'expired', atMs: expiresAtMs })
    t.same(await world.advanceUntil(core.queue.walk(device)), [])
  },
)

t.test('messages that end while the store is away are left to the expire step', async (t) => {
  const world = new SimInstallation()
  const core = await world.core({ expiryBucketMs: 10_000 })
  const device = deviceName(1)
  const { id } = await world.advanceUntil(core.accept(messageTo([device], { ttlMs: TTL_MS })))
  await world.advanceUntil(core.acknowledged(device, id))
  core.process.partition()
  await world.sim.clock.advance(12_000)
  core.process.heal()
  t.match(await world.advanceUntil(core.final(id)), { kind: 'expired' })
})
