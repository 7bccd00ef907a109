/** Who may keep a place of the group catch-up, and for how long: not a device that does not read, nor a quiet tail. */
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
  // Everything is read from the log.
  groupCacheBytesMax: 1,
}

/** Anybody may subscribe to all of the backlog. */
async function stage() {
  const one = await oneWorker({ settings })
  const { broadcast, devices, send } = groupsOf(one)
  let messages = 0n
  const subscribe = (device: string) => {
    const topic = { registration: 1, project: 'p', topic: 'news', since: 0, addedVersion: 1 }
    return one.clock.advanceUntil(devices.update(device, (record) => ({ ...record, version: 1, topics: [topic] })))
  }
  return { ...one, broadcast, subscribe, send: (ttlMs: number) => send('news', ++messages, ttlMs) }
}

const deviceName = (n: number) => `dev_${String(n).padStart(20, '0')}`
const isCaughtUp = (phone: Phone) => phone.ofType('CAUGHT_UP') > 0

t.test('devices that ask for a backlog and do not read it keep nobody else from theirs, and are closed', async (t) => {
  const { clock, send, subscribe, connect, stop } = await stage()
  for (let n = 0; n < BACKLOG; n++) await send(1e12)
  const others = Array.from({ length: PLACES + 3 }, (_, n) => deviceName(n))
  const honest = deviceName(99)
  for (const device of [...others, honest]) await subscribe(device)
  const deaf = others.map((device) => connect(null, device))
  for (const { end } of deaf) end.pause()
  // As a device that is alive and well, but for its reading.
  const pings = setPings(deaf, clock)
  await clock.advance(PING_MS * 2)

  const phone = connect(null, honest)
  await clock.advance(PING_MS)
  t.equal(phone.ofType('NOTIFY_GROUP'), BACKLOG, 'a reader has its whole backlog meanwhile')
  t.ok(isCaughtUp(phone))
  t.same(
    deaf.flatMap(({ closes }) => closes),
    [],
    'patience is not over yet',
  )

  await clock.advance(STALLED_MS + PING_MS)
  pings.stop()
  t.same(new Set(deaf.flatMap(({ closes }) => closes)), new Set([Close.too_slow.code]))
  t.ok(deaf.every(({ closes }) => closes.length === 1))

  await stop()
})

t.test('a device that reads slowly gets all of it, in order', async (t) => {
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

t.test('a tail that comes as far as the cursor with an expired message has come as far', async (t) => {
  const { clock, sim, broadcast, send, subscribe, connect, stop } = await stage()
  await subscribe(deviceName(1))
  sim.faults.tailDelayMs = [5_000, 5_000]
  await send(1_000)
  const { incarnation, lastSequence } = await clock.advanceUntil(broadcast.log.state())
  const cursor = { incarnation: BigInt(incarnation), sequence: lastSequence, subscriptions: 1 }
  const phone = connect(cursor, deviceName(1))
  await clock.advance(3_000)
  t.notOk(isCaughtUp(phone), 'the tail is behind the cursor')
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
