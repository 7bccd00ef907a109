/** Large scheduled campaigns: the requests of the schedule step at the broker, counted on a simulated one. */
import t from 'tap'
import { REQUESTS_AT_ONCE } from '../../src/core/delivery/schedule/buckets.js'
import type { CoreSettings } from '../../src/core/settings.js'
import { deviceName, eventually, messageTo, startTestCore } from '../support/core.js'
import { countInFlight } from '../support/in-flight.js'
import { SIM_SPLIT, SimInstallation } from '../support/sim-core.js'

const MINUTE_MS = 60_000
const DEVICES = Array.from({ length: 1_000 }, (_, n) => deviceName(n))
/** The requests with which a core renews leases and writes checkpoints meanwhile. */
const OTHER_REQUESTS_MAX = 8

function installation() {
  const world = new SimInstallation()
  const { clock, random } = world.sim
  const observer = world.sim.brokerFor('observer')
  const count = async (stream: string) => (await observer.log(stream).state()).messages
  const messagesIn = (stream: string) => world.advanceUntil(count(stream))
  let cores = 0
  // A core that does not route: released messages stay in MESSAGES.
  const start = async (settings: Partial<CoreSettings>) => {
    const inFlight = countInFlight(world.sim.brokerFor(`core-${++cores}`))
    const all = { routing: false, counting: false, expiring: false, settling: false, ...settings }
    return {
      inFlight,
      core: await world.advanceUntil(startTestCore(inFlight.broker, SIM_SPLIT, all, clock, random, observer)),
    }
  }
  return { world, clock, count, messagesIn, start }
}

t.test(
  '20 messages to 1,000 devices for one second are released in batches, and others are accepted meanwhile',
  async (t) => {
    const { world, clock, count, messagesIn, start } = installation()
    const { inFlight, core } = await start({})
    const notBeforeMs = clock.now() + MINUTE_MS
    for (let n = 0; n < 20; n++) await world.advanceUntil(core.accept(messageTo(DEVICES, { notBeforeMs })))
    t.equal(await messagesIn('SCHEDULE'), 20_000)
    await clock.advance(notBeforeMs - clock.now())
    inFlight.reset()
    const waitingCount = await world.advanceUntil(
      eventually(clock, 'the first released message', async () => {
        const waiting = await count('SCHEDULE')
        return waiting < 20_000 ? waiting : null
      }),
    )
    t.ok(waitingCount > 0, `${waitingCount} messages of the campaign wait`)
    await world.advanceUntil(core.accept(messageTo([deviceName(1)])))
    t.ok((await messagesIn('SCHEDULE')) > 0, 'a message is accepted before the last of the campaign is released')
    await world.advanceUntil(
      eventually(clock, 'the end of the campaign', async () => ((await count('SCHEDULE')) === 0 ? true : null)),
    )
    t.equal(await messagesIn('MESSAGES_0'), 20_001)
    t.ok(inFlight.most <= REQUESTS_AT_ONCE + OTHER_REQUESTS_MAX, `${inFlight.most} in flight`)
    // Each entry: read, its final and its accepted event, the append, the delete.
    t.ok(inFlight.made < 20_000 * 5.2, `${inFlight.made} requests`)
  },
)

t.test('a process that takes over the schedule reads the waiting messages with many requests at once', async (t) => {
  const { world, clock, messagesIn, start } = installation()
  const { core } = await start({ scheduling: false })
  for (let n = 1; n <= 5; n++) {
    const notBeforeMs = clock.now() + n * 60 * MINUTE_MS
    await world.advanceUntil(core.accept(messageTo(DEVICES, { notBeforeMs })))
  }
  const { inFlight } = await start({})
  // The step has requests in flight until it has read each message.
  await world.advanceUntil(
    eventually(clock, 'the end of the reading', async () =>
      inFlight.now === 0 && inFlight.made > 5_000 ? true : null,
    ),
  )
  t.equal(await messagesIn('SCHEDULE'), 5_000)
  t.ok(inFlight.most >= REQUESTS_AT_ONCE, `${inFlight.most} in flight`)
  t.ok(inFlight.most <= REQUESTS_AT_ONCE + OTHER_REQUESTS_MAX, `${inFlight.most} in flight`)
  t.ok(inFlight.made < 5_500, `${inFlight.made} requests`)
})

t.test('each entry of three buckets is released at its time', async (t) => {
  const { world, clock, messagesIn, start } = installation()
  const { core } = await start({})
  const beginMs = clock.now() + MINUTE_MS
  for (let n = 0; n < 300; n++) {
    const notBeforeMs = beginMs + (n % 3) * MINUTE_MS
    await world.advanceUntil(core.accept(messageTo([deviceName(n)], { notBeforeMs })))
  }
  for (const waiting of [200, 100, 0]) {
    await clock.advance(beginMs + ((200 - waiting) / 100) * MINUTE_MS + 10_000 - clock.now())
    t.equal(await messagesIn('SCHEDULE'), waiting)
  }
  t.equal(await messagesIn('MESSAGES_0'), 300)
})
