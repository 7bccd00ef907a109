/** Four rules of the catch-up of group messages (ADR 8), each with one worker and one device on virtual time. */
import t from 'tap'
import type { Group } from '../../../src/store/devices.js'
import { startsOf } from '../../../src/transport/groups/starts.js'
import { oneWorker } from './one-worker.js'
import { cursors, groupIds, groupsOf, MESSAGE_BYTES } from './one-worker-groups.js'

/** The worker reads every message from the log, and buffers little for a device that does not read. */
const settings = { groupCacheBytesMax: 1, catchUpBufferedBytesMax: 300 }

t.test(
  'after a loss of the log, a device that tells its old cursor gets everything; without one it misses some',
  async (t) => {
    // The device joined at 500 of the log that is gone. The new log has come further meanwhile.
    const groups = [{ subject: 's', since: 500, addedVersion: 3, registrations: [1] }]
    const log = { incarnation: 2n, last: 800 }
    const old = { incarnation: 1n, sequence: 620, subscriptions: 3 }
    t.match(startsOf(groups, old, log), { after: new Map([['s', 0]]), gap: 'log_reset' })
    t.match(
      startsOf(groups, null, log),
      { after: new Map([['s', 500]]), gap: null },
      'which is why it keeps its cursor',
    )
  },
)

t.test('a group newer than the cursor starts at its subscription, and an older one at the cursor', async (t) => {
  const group = (subject: string, since: number, addedVersion: number): Group => ({
    ...{ subject, since, addedVersion },
    registrations: [1],
  })
  const cursor = { incarnation: 1n, sequence: 50, subscriptions: 3 }
  const { after, gap } = startsOf([group('old', 10, 3), group('new', 20, 4)], cursor, { incarnation: 1n, last: 90 })
  t.same(after, new Map(Object.entries({ old: 50, new: 20 })))
  t.equal(gap, null)
})

t.test('a topic added during a catch-up is caught up before the one CAUGHT_UP, and is live afterwards', async (t) => {
  const stage = await oneWorker({ settings })
  const { clock, connect, stop } = stage
  const { send, subscribe } = groupsOf(stage)
  await subscribe('a')
  const backlog = Array.from({ length: 20 }, (_, n) => BigInt(n + 1))
  for (const id of backlog) await send('a', id)
  const phone = connect()
  phone.end.pause()
  await clock.advance(1_000)
  await subscribe('b')
  await send('b', 100n)
  await clock.advance(1_000)
  phone.end.resume()
  await clock.advance(1_000)
  t.match(cursors(phone), [{ subscriptions: 2 }], 'one CAUGHT_UP, which counts both topics')
  t.same(groupIds(phone), [...backlog, 100n])
  await send('b', 101n)
  await clock.advance(1_000)
  t.equal(groupIds(phone).at(-1), 101n, 'the added topic is live')
  await stop()
})

t.test('messages that a lagging replica lacks are read from the leader before the device gets CAUGHT_UP', async (t) => {
  const stage = await oneWorker({ settings, faults: { staleRead: 1, staleMs: [60_000, 60_000] } })
  const { clock, connect, stop } = stage
  const { send, subscribe } = groupsOf(stage)
  await subscribe('a')
  for (const id of [1n, 2n, 3n]) await send('a', id)
  await clock.advance(1_000)
  const phone = connect()
  await clock.advance(1_000)
  t.same(groupIds(phone), [1n, 2n, 3n])
  t.match(cursors(phone), [{ sequence: 3 }])
  await stop()
})

t.test('messages read from the log and from memory reach the device in the order of the log', async (t) => {
  const stage = await oneWorker({ settings: { groupCacheBytesMax: 2 * MESSAGE_BYTES } })
  const { clock, connect, stop } = stage
  const { send, subscribe } = groupsOf(stage)
  await subscribe('a')
  await send('a', 1n)
  // Each message of b that the device may have is in memory.
  await subscribe('b')
  await send('b', 2n)
  await send('a', 3n)
  await clock.advance(1_000)
  const phone = connect()
  await clock.advance(1_000)
  t.same(groupIds(phone), [1n, 2n, 3n], 'a device that got 3 before 2 and was cut off would never ask for 2')
  await stop()
})
