/** The number of broker requests that a query has in flight, on a simulated broker. */
import t from 'tap'
import { READS_AT_ONCE } from '../../src/core/domain/query-budget.js'
import { deviceName, eventually, messageTo, PROJECT, startTestCore } from '../support/core.js'
import { countInFlight } from '../support/in-flight.js'
import { SIM_SPLIT, SimInstallation } from '../support/sim-core.js'

/** Each target takes at most two requests at once; the core itself makes up to eight beside them. */
const IN_FLIGHT_MAX = 2 * READS_AT_ONCE + 8

const DEVICES = Array.from({ length: 1_000 }, (_, n) => deviceName(n))

async function coreThatCounts() {
  const world = new SimInstallation()
  const process = world.sim.brokerFor('core')
  const inFlight = countInFlight(process)
  // A core that does not route: the targets stay where they are.
  const settings = { routing: false, leaseMs: 60_000, checkpointMs: 60_000 }
  const { clock, random } = world.sim
  const core = await world.advanceUntil(
    startTestCore(inFlight.broker, SIM_SPLIT, settings, clock, random, world.sim.brokerFor('observer')),
  )
  const { id } = await world.advanceUntil(core.accept(messageTo(DEVICES)))
  return { world, core, inFlight, id }
}

t.test(`a status read of 1,000 targets has at most ${IN_FLIGHT_MAX} requests in flight`, async (t) => {
  const { world, core, inFlight, id } = await coreThatCounts()
  inFlight.reset()
  const status = await world.advanceUntil(core.readStatus(id))
  t.equal(status?.counts.pending, 1_000)
  t.ok(inFlight.made > 1_000, `${inFlight.made} requests`)
  t.ok(inFlight.most <= IN_FLIGHT_MAX, `${inFlight.most} in flight`)
})

t.test(`a cancel of 1,000 targets has at most ${IN_FLIGHT_MAX} requests in flight`, async (t) => {
  const { world, core, inFlight, id } = await coreThatCounts()
  inFlight.reset()
  t.equal(await world.advanceUntil(core.cancel(PROJECT, id)), 'cancelled')
  t.ok(inFlight.most <= IN_FLIGHT_MAX, `${inFlight.most} in flight`)
  const status = await world.advanceUntil(
    eventually(world.sim.clock, 'the end of each target', async () => {
      const now = await core.readStatus(id)
      return now?.counts.cancelled === 1_000 ? now : null
    }),
  )
  t.match(status, { status: 'cancelled' })
})
