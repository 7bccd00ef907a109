/** The places of the group catch-up are limited: a device that does not read, and a quiet tail, give up their place. */
import t from 'tap'
import { Close } from '../../../protocol/close-codes.js'
import { encodeFrame } from '../../../protocol/encode.js'
import { oneWorker } from './one-worker.js'
import { groupIds, groupsOf, type Phone } from './one-worker-groups.js'

const PLACES = 2
const BACKLOG = 30
const STALLED_MS = 60_000
const PING_MS = 10_000
const settings = {
  ...{ catchUpsInFlightMax: PLACES, catchUpBufferedBytesMax: 300, catchUpStalledMs: STALLED_MS },
  // With so little memory the worker reads every message from the log.
  groupCacheBytesMax: 1,
}

/** A worker and a topic. A device that subscribes is entitled to its messages from the beginning. */
async function stage() {
  const world = await oneWorker({ settings })
  const { broadcast, devices, send } = groupsOf(world)
  let messages = 0n
  const subscribe = (device: string) => {
    const topic = { registration: 1, project: 'p', topic: 'news', since: 0, addedVersion: 1 }
    return world.clock.advanceUntil(devices.update(device, (record) => ({ ...record, version: 1, topics: [topic] })))
  }
  return { ...world, broadcast, subscribe, send: (ttlMs: number) => send('news', ++messages, ttlMs) }
}

const deviceName = (n: number) => `dev_${String(n).padStart(20, '0')}`
const isCaughtUp = (phone: Phone) => phone.ofType('CAUGHT_UP') > 0

t.test(
  'devices that do not read their backlog are closed as too_slow, and a reading device gets its own',
  async (t) => {
    const { clock, send, subscribe, connect, stop } = await stage()
    for (let n = 0; n < BACKLOG; n++) await send(1e12)
    const stalledNames = Array.from({ length: PLACES + 3 }, (_, n) => deviceName(n))
    const readerName = deviceName(99)
    for (const device of [...stalledNames, readerName]) await subscribe(device)
    const stalled = stalledNames.map((device) => connect(null, device))
    for (const { end } of stalled) end.pause()
    // They keep sending PING, so they are not idle.
    const pings = setPings(stalled, clock)
    await clock.advance(PING_MS * 2)

    const phone = connect(null, readerName)
    await clock.advance(PING_MS)
    t.equal(phone.ofType('NOTIFY_GROUP'), BACKLOG, 'the reading device has its whole backlog')
    t.ok(isCaughtUp(phone))
    t.same(
      stalled.flatMap(({ closes }) => closes),
      [],
      'before catchUpStalledMs the others are still connected',
    )

    await clock.advance(STALLED_MS + PING_MS)
    pings.stop()
    t.same(new Set(stalled.flatMap(({ closes }) => closes)), new Set([Close.too_slow.code]))
    t.ok(stalled.every(({ closes }) => closes.length === 1))

    await stop()
  },
)

t.test('a device that reads slowly gets its whole backlog in order, and is not closed', async (t) => {
  const { clock, send, subscribe, connect, stop } = await stage()
  for (let n = 0; n < BACKLOG; n++) await send(1e12)
  await subscribe(deviceName(1))
  const phone = connect(null, deviceName(1))
  const pings = setPings([phone], clock)
  for (let n = 0; n < BACKLOG; n++) {
    phone.end.pause()
    await clock.advance(STALLED_MS / 4)
    phone.end.resume()
    await clock.advance(50)
  }
  await clock.advance(1_000)
  pings.stop()
  t.same(
    groupIds(phone).map(Number),
    Array.from({ length: BACKLOG }, (_, n) => n + 1),
  )
  t.ok(isCaughtUp(phone))
  t.same(phone.closes, [])
  await stop()
})

t.test('a device is caught up when the tail reaches its cursor with an expired message', async (t) => {
  const { clock, sim, broadcast, send, subscribe, connect, stop } = await stage()
  await subscribe(deviceName(1))
  sim.faults.tailDelayMs = [5_000, 5_000]
  await send(1_000)
  const { incarnation, lastSequence } = await clock.advanceUntil(broadcast.log.state())
  const cursor = { incarnation: BigInt(incarnation), sequence: lastSequence, subscriptions: 1 }
  const phone = connect(cursor, deviceName(1))
  await clock.advance(3_000)
  t.notOk(isCaughtUp(phone), 'the tail has not reached the cursor yet')
  await clock.advance(5_000)
  t.ok(isCaughtUp(phone))
  await stop()
})

function setPings(phones: readonly Phone[], clock: { after(ms: number, fn: () => void): () => void }) {
  let isOver = false
  const ping = () => {
    if (isOver) return
    for (const { end, closes } of phones) if (closes.length === 0) end.send(encodeFrame({ type: 'PING' }))
    clock.after(PING_MS, ping)
  }
  clock.after(PING_MS, ping)
  return {
    stop: () => {
      isOver = true
    },
  }
}
