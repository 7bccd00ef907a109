/** Three rules of group messages (design 3.8), each by itself: one worker, one device, virtual time. */
import t from 'tap'
import type { Group } from '../../../src/store/devices.js'
import { startsOf } from '../../../src/transport/groups/starts.js'
import { oneWorker } from './one-worker.js'
import { cursors, groupIds, groupsOf, MESSAGE_BYTES } from './one-worker-groups.js'

/** Everything is read from the log, and little is kept for a device that does not read. */
const settings = { groupCacheBytesMax: 1, catchUpBufferedBytesMax: 300 }

t.test('a group that is newer than the cursor begins where it was subscribed, not at the cursor', async (t) => {
  const group = (subject: string, since: number, addedVersion: number): Group => ({ subject, since, addedVersion })
  const cursor = { incarnation: 1n, sequence: 50, subscriptions: 3 }
  const { after, gap } = startsOf([group('old', 10, 3), group('new', 20, 4)], cursor, { incarnation: 1n, last: 90 })
  t.same(after, new Map(Object.entries({ old: 50, new: 20 })), 'the cursor went on without the new one')
  t.equal(gap, null)
})

t.test('a topic that is added during a catch-up belongs to what the device is told to be caught up with', async (t) => {
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
  t.match(cursors(phone), [{ subscriptions: 2 }], 'told once, of both')
  t.same(groupIds(phone), [...backlog, 100n])
  await send('b', 101n)
  await clock.advance(1_000)
  t.equal(groupIds(phone).at(-1), 101n, 'and it is live')
  await stop()
})

t.test(
  'what a lagging replica has not got yet is asked of the leader before a device is called caught up',
  async (t) => {
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
  },
)

t.test('what is read from the log ends where memory begins: no topic gets ahead of another', async (t) => {
  const stage = await oneWorker({ settings: { groupCacheBytesMax: 2 * MESSAGE_BYTES } })
  const { clock, connect, stop } = stage
  const { send, subscribe } = groupsOf(stage)
  await subscribe('a')
  await send('a', 1n)
  // All that it may have of this one is in memory.
  await subscribe('b')
  await send('b', 2n)
  await send('a', 3n)
  await clock.advance(1_000)
  const phone = connect()
  await clock.advance(1_000)
  t.same(groupIds(phone), [1n, 2n, 3n], 'cut off after the third it would never ask for the second')
  await stop()
})
