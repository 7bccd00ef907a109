/** Who may keep a place of the group catch-up, and for how long: not a device that does not read, nor a quiet tail. */
import t from 'tap'
import { Value } from 'typebox/value'
import { Close } from '../../../protocol/close-codes.js'
import { decodeFrames } from '../../../protocol/decode.js'
import { encodeFrame, encodeNotifyGroupBody } from '../../../protocol/encode.js'
import { SERVER_FRAME_BYTES_MAX } from '../../../protocol/frame.js'
import type { Cursor, ServerFrame } from '../../../protocol/frame-types.js'
import { Bucket } from '../../../protocol/subjects.js'
import { mintDeviceToken } from '../../../src/device-token.js'
import { Keyring } from '../../../src/keyring.js'
import { silentLogger } from '../../../src/observe/log.js'
import { BroadcastLog } from '../../../src/store/broadcast.js'
import { DeviceStore } from '../../../src/store/devices.js'
import { TransportSettings } from '../../../src/transport/settings.js'
import { Worker } from '../../../src/transport/worker.js'
import { SimFabric } from '../../sim/fabric.js'
import { type DeviceEnd, SimSockets } from './sim-sockets.js'

const ISSUER = 'sim'
const PLACES = 2
const BACKLOG = 30
const STALLED_MS = 60_000
const PING_MS = 10_000
const keyring = Keyring.generate(0)
const settings: TransportSettings = {
  ...(Value.Default(TransportSettings, {}) as TransportSettings),
  ...{ catchUpsInFlightMax: PLACES, catchUpBufferedBytesMax: 300, catchUpStalledMs: STALLED_MS },
  // Everything is read from the log.
  groupCacheBytesMax: 1,
}

async function stage() {
  const sim = new SimFabric({ seed: 1 })
  const { clock } = sim
  const core = sim.fabricFor('core')
  const fabric = sim.fabricFor('worker')
  const sockets = new SimSockets({ clock })
  const worker = new Worker({
    ...{ fabric, sockets, settings, clock: fabric.clock, split: 4, issuer: ISSUER, worker: 'w' },
    ...{
      keys: keyring.transportKeys(),
      connectionsMax: 100,
      descriptors: () => null,
      log: silentLogger,
      lagMs: () => 0,
    },
  })
  await clock.settle(worker.start())
  const broadcast = new BroadcastLog(core)
  const devices = new DeviceStore(core.table(Bucket.DEVICES))
  let messages = 0n
  const send = async (ttlMs: number) => {
    const id = ++messages
    const content = { expiresAtSeconds: 4e9, priority: 'normal', collapseKey: '', title: '', message: '' } as const
    const target = { kind: 'topic', name: 'news' } as const
    const body = encodeNotifyGroupBody({ ...content, id, target, project: 'p', data: new Uint8Array() })
    const times = { acceptedAtMs: clock.now(), expiresAtMs: clock.now() + ttlMs }
    await clock.settle(broadcast.append({ id, project: 'p', ...target, collapseKey: '', body, ...times }))
  }
  const subscribe = (device: string) => {
    const topic = { registration: 1, project: 'p', topic: 'news', since: 0, addedVersion: 1 }
    return clock.settle(devices.update(device, (record) => ({ ...record, version: 1, topics: [topic] })))
  }
  return { clock, sim, broadcast, send, subscribe, sockets, worker }
}

interface Phone {
  end: DeviceEnd
  frames: ServerFrame[]
  closes: number[]
}

function connect(sockets: SimSockets, device: string, nowMs: number, cursor: Cursor | null): Phone {
  const end = sockets.connect()
  if (!end) throw new Error('refused')
  const phone: Phone = { end, frames: [], closes: [] }
  end.onMessage = (bytes) => {
    const limits = { from: 'server', frameBytesMax: SERVER_FRAME_BYTES_MAX } as const
    phone.frames.push(...(decodeFrames(bytes, limits).frames as ServerFrame[]))
  }
  end.onClosed = (code) => phone.closes.push(code)
  const request = { issuer: ISSUER, device, fleet: 'f', nowMs, lifetimeMs: 1e9 }
  const { token } = mintDeviceToken(keyring.signingKey('deviceToken'), request)
  const credential = { kind: 'token', token } as const
  const hello = { version: 1, credential, connection: 1, client: null, cursor, gap: null }
  end.send(encodeFrame({ type: 'HELLO', ...hello }))
  return phone
}

const deviceName = (n: number) => `dev_${String(n).padStart(20, '0')}`
const groupsSeen = ({ frames }: Phone) => frames.filter(({ type }) => type === 'NOTIFY_GROUP').length
const isCaughtUp = ({ frames }: Phone) => frames.some(({ type }) => type === 'CAUGHT_UP')

t.test('devices that ask for a backlog and do not read it keep nobody else from theirs, and are closed', async (t) => {
  const { clock, send, subscribe, sockets, worker } = await stage()
  for (let n = 0; n < BACKLOG; n++) await send(1e12)
  const others = Array.from({ length: PLACES + 3 }, (_, n) => deviceName(n))
  const honest = deviceName(99)
  for (const device of [...others, honest]) await subscribe(device)
  const deaf = others.map((device) => connect(sockets, device, clock.now(), null))
  for (const { end } of deaf) end.pause()
  // As a device that is alive and well, but for its reading.
  const pings = setPings(deaf, clock)
  await clock.run(PING_MS * 2)

  const phone = connect(sockets, honest, clock.now(), null)
  await clock.run(PING_MS)
  t.equal(groupsSeen(phone), BACKLOG, 'a reader has its whole backlog meanwhile')
  t.ok(isCaughtUp(phone))
  t.same(
    deaf.flatMap(({ closes }) => closes),
    [],
    'patience is not over yet',
  )

  await clock.run(STALLED_MS + PING_MS)
  pings.stop()
  t.same(new Set(deaf.flatMap(({ closes }) => closes)), new Set([Close.too_slow.code]))
  t.ok(deaf.every(({ closes }) => closes.length === 1))

  await clock.settle(worker.stop())
})

t.test('a device that reads slowly gets all of it, in order', async (t) => {
  const { clock, send, subscribe, sockets, worker } = await stage()
  for (let n = 0; n < BACKLOG; n++) await send(1e12)
  await subscribe(deviceName(1))
  const phone = connect(sockets, deviceName(1), clock.now(), null)
  const pings = setPings([phone], clock)
  for (let n = 0; n < BACKLOG; n++) {
    phone.end.pause()
    await clock.run(STALLED_MS / 4)
    phone.end.resume()
    await clock.run(50)
  }
  await clock.run(1_000)
  pings.stop()
  const ids = phone.frames.flatMap((frame) => (frame.type === 'NOTIFY_GROUP' ? [Number(frame.id)] : []))
  t.same(
    ids,
    Array.from({ length: BACKLOG }, (_, n) => n + 1),
  )
  t.ok(isCaughtUp(phone))
  t.same(phone.closes, [])
  await clock.settle(worker.stop())
})

t.test('a tail that comes as far as the cursor with an expired message has come as far', async (t) => {
  const { clock, sim, broadcast, send, subscribe, sockets, worker } = await stage()
  await subscribe(deviceName(1))
  sim.faults.tailDelayMs = [5_000, 5_000]
  await send(1_000)
  const { incarnation, lastSequence } = await clock.settle(broadcast.log.state())
  const cursor = { incarnation: BigInt(incarnation), sequence: lastSequence, subscriptions: 1 }
  const phone = connect(sockets, deviceName(1), clock.now(), cursor)
  await clock.run(3_000)
  t.notOk(isCaughtUp(phone), 'the tail is behind the cursor')
  await clock.run(5_000)
  t.ok(isCaughtUp(phone))
  await clock.settle(worker.stop())
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
