/** A store that fills: accepted messages come to their end, new ones are refused, and the oldest history is removed. */
import t from 'tap'
import { CodedError } from '../../protocol/errors.js'
import { deviceName, messageTo, PROJECT } from '../support/core.js'
import { type SimCore, SimInstallation } from '../support/sim-core.js'

// A store is filled message by message, which takes longer than most tests on a busy machine.
t.setTimeout(240_000)

const KIB = 1024
/** More than any of these stores has room for. */
const MESSAGES_MAX = 4_000
const AT_ONCE = 10
const DAY_MS = 86_400_000
const TTL_MS = 120_000
/** Slower than those of other tests, because much time passes. */
const SLOW = { sweepMs: 1_000, checkpointMs: 5_000, leaseMs: 6_000, expiryBucketMs: 5_000 }

/** Sends to absent devices until the first refusal. */
async function fill(world: SimInstallation, core: SimCore, changes: Parameters<typeof messageTo>[1] = {}) {
  const accepted: bigint[] = []
  let refusal: unknown = null
  for (let n = 0; n < MESSAGES_MAX && refusal === null; n += AT_ONCE) {
    const sent = Array.from({ length: AT_ONCE }, (_, i) => core.accept(messageTo([deviceName(n + i)], changes)))
    for (const result of await world.advanceUntil(Promise.allSettled(sent))) {
      if (result.status === 'fulfilled') accepted.push(result.value.id)
      else refusal = result.reason
    }
    await world.sim.clock.advance(100)
  }
  return { accepted, code: refusal instanceof CodedError ? refusal.code : refusal }
}

const STORES = {
  EVENTS: { eventsBytesMax: 256 * KIB },
  QUEUE: { queueBytesMax: 256 * KIB },
  EXPIRY: { expiryBytesMax: 160 * KIB },
  MESSAGES: { messagesBytesMax: 256 * KIB },
}

for (const [name, store] of Object.entries(STORES)) {
  t.test(
    `with ${name} full, messages are refused with storage_full and each accepted one comes to its end`,
    async (t) => {
      const world = new SimInstallation({ store })
      const core = await world.core({ ...SLOW, routing: name !== 'MESSAGES' })
      const { accepted, code } = await fill(world, core, { ttlMs: TTL_MS })
      t.equal(code, 'storage_full')
      t.ok(accepted.length > 50, `${accepted.length} messages were accepted`)
      if (name === 'MESSAGES') await world.core(SLOW)
      await world.sim.clock.advance(20_000)
      t.equal(world.sim.server.stream('MESSAGES_0').state().messages, 0, 'each accepted message is in its queue')
      await world.sim.clock.advance(TTL_MS)
      const ends = await world.advanceUntil(Promise.all(accepted.map((id) => core.events.readFinal(id))))
      t.same(
        ends.map((end) => end?.kind),
        accepted.map(() => 'expired'),
      )
    },
  )
}

t.test(
  'history is removed before a message is refused: of ended messages only, and the counters stay exact',
  async (t) => {
    const world = new SimInstallation({ store: { eventsBytesMax: 512 * KIB } })
    const historyMinMs = 5_000
    const core = await world.core({ ...SLOW, checkpointMs: 1_000, expiryBucketMs: 1_000, historyMinMs })
    const early = await world.advanceUntil(core.accept(messageTo([deviceName(1)], { ttlMs: DAY_MS })))
    const cancelled = await world.advanceUntil(core.accept(messageTo([deviceName(2)], { ttlMs: DAY_MS })))
    await world.advanceUntil(core.acknowledged(deviceName(2), cancelled.id))
    t.equal(await world.advanceUntil(core.cancel(PROJECT, cancelled.id)), 'cancelled')
    const several = await world.advanceUntil(core.accept(messageTo([deviceName(3), deviceName(4)], { ttlMs: DAY_MS })))
    const group = { type: 'topic' as const, group: { kind: 'topic' as const, name: 'news' }, targets: [] }
    const topic = await world.advanceUntil(core.accept(messageTo([], { ...group, ttlMs: DAY_MS })))

    const sent = 3_000
    for (let n = 0; n < sent; n += AT_ONCE) {
      // Messages with a ttl of 0 are not queued: each ends at once.
      const some = Array.from({ length: AT_ONCE }, (_, i) =>
        core.accept(messageTo([deviceName(10 + n + i)], { ttlMs: 0 })),
      )
      await world.advanceUntil(Promise.all(some))
      await world.sim.clock.advance(250)
    }
    await world.sim.clock.advance(2 * historyMinMs)
    const events = world.sim.server.stream('EVENTS_0')
    t.ok(events.state().messages < 2 * sent, `${events.state().messages} events are left of at least ${2 * sent}`)
    t.equal(await world.advanceUntil(core.readStatus(cancelled.id)), null, 'a message that has ended is unknown')
    t.match(await world.advanceUntil(core.readStatus(early.id)), { status: 'queued', acceptedAtMs: early.acceptedAtMs })
    t.match(await world.advanceUntil(core.readStatus(several.id)), { counts: { accepted: 2, pending: 2 } })
    t.match(await world.advanceUntil(core.readStatus(topic.id)), { status: 'accepted', type: 'topic' })
    const rows = await world.advanceUntil(core.readCounters(PROJECT))
    const sum = (counter: string) => rows.reduce((total, { counts }) => total + (counts[counter] ?? 0), 0)
    t.same([sum('accepted'), sum('expired'), sum('cancelled'), sum('pending')], [sent + 4, sent, 1, 3])
    t.equal(await world.advanceUntil(core.cancel(PROJECT, early.id)), 'cancelled', 'a pending message ends as usual')
  },
)

t.test('in a full EXPIRY entries of ended messages are removed, and a waiting message still expires', async (t) => {
  const world = new SimInstallation({ store: { expiryBytesMax: 128 * KIB } })
  const historyMinMs = 5_000
  const core = await world.core({ ...SLOW, historyMinMs })
  const waiting = await world.advanceUntil(core.accept(messageTo([deviceName(1)], { ttlMs: 600_000 })))
  let accepted = 0
  for (let n = 0; n < 1_500; n += AT_ONCE) {
    const devices = Array.from({ length: AT_ONCE }, (_, i) => deviceName(10 + n + i))
    const some = devices.map((device) => core.accept(messageTo([device], { ttlMs: DAY_MS })))
    const results = await world.advanceUntil(Promise.all(some))
    accepted += results.length
    await world.advanceUntil(Promise.all(results.map(({ id }, i) => core.acknowledged(devices[i] ?? '', id))))
    await world.advanceUntil(Promise.all(results.map(({ id }) => core.cancel(PROJECT, id))))
    await world.sim.clock.advance(300)
  }
  const expiry = world.sim.server.stream('EXPIRY')
  t.ok(expiry.state().messages < accepted, `${expiry.state().messages} entries are left of ${accepted}`)
  await world.sim.clock.advance(600_000)
  t.match(await world.advanceUntil(core.events.readFinal(waiting.id)), { kind: 'expired' })
  t.same(await world.advanceUntil(core.queue.walk(deviceName(1))), [])
})

t.test('an entry of EXPIRY that outlives the history of its message does not end the message again', async (t) => {
  const world = new SimInstallation({ store: { eventsBytesMax: 160 * KIB } })
  const historyMinMs = 5_000
  const core = await world.core({ ...SLOW, checkpointMs: 1_000, historyMinMs })
  const device = deviceName(1)
  const { id } = await world.advanceUntil(core.accept(messageTo([device], { ttlMs: TTL_MS })))
  await world.advanceUntil(core.acknowledged(device, id))
  t.equal(await world.advanceUntil(core.cancel(PROJECT, id)), 'cancelled')
  let sent = 0
  while ((await world.advanceUntil(core.events.readFinal(id))) !== null && sent < MESSAGES_MAX) {
    const some = Array.from({ length: AT_ONCE }, () => core.accept(messageTo([deviceName(10 + sent++)], { ttlMs: 0 })))
    await world.advanceUntil(Promise.all(some))
    await world.sim.clock.advance(500)
  }
  t.equal(await world.advanceUntil(core.readStatus(id)), null, `its history is removed after ${sent} messages`)
  await world.sim.clock.advance(2 * TTL_MS)
  t.equal(await world.advanceUntil(core.events.readFinal(id)), null, 'it is not expired as well')
  const rows = await world.advanceUntil(core.readCounters(PROJECT))
  const sum = (counter: string) => rows.reduce((total, { counts }) => total + (counts[counter] ?? 0), 0)
  t.same([sum('accepted'), sum('cancelled'), sum('expired'), sum('pending')], [sent + 1, 1, sent, 0])
})
