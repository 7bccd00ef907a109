import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import { renew } from '../../src/device/enrol.js'
import { DeviceError } from '../../src/device/index.js'
import { Renewal } from '../../src/device/renewal.js'
import { deviceSettings } from '../../src/device/settings.js'
import type { Identity } from '../../src/device/state/state.js'
import { VirtualClock } from '../sim/clock.js'
import { seeded } from '../sim/random.js'
import { welcome } from './scripted-server.js'
import { client, event, IDENTITY, memory, server } from './support.js'

const CORE = 'http://core.example'
const renewedOf = (identity: Identity): Identity => ({ ...identity, token: `${identity.token}+` })

function knowing(core = CORE, fields: Partial<Identity> = {}) {
  const store = memory()
  store.state.apply({ kind: 'identity', identity: { ...IDENTITY, core, ...fields } })
  return store
}

t.test('a token that has ended is renewed, durably before it is shown, and the device stays the same', async (t) => {
  const transport = await server(t)
  const store = knowing()
  let asked = 0
  const device = client(t, transport.url, store, {
    renew: async ({ identity }) => {
      asked++
      if (asked < 3) throw new DeviceError('renew_unreachable', 'the answer is lost')
      return renewedOf(identity)
    },
  })
  device.connect()
  const first = await transport.welcomed()
  first.close('token_expired')
  const second = await transport.connection()
  t.match(await second.next('HELLO'), { connection: 2, credential: { kind: 'token', token: 'token+' } })
  t.equal(asked, 3)
  t.match(store.state.identity, { token: 'token+', deviceId: IDENTITY.deviceId })
  t.equal(device.registrations.length, 1)
})

t.test('a connected device renews in time, and leaves once to show the new token', async (t) => {
  const transport = await server(t)
  const store = knowing(CORE, { renewAtMs: 1, expiresAtMs: 2 })
  let release = () => {}
  const held = new Promise<void>((resolve) => {
    release = resolve
  })
  const device = client(t, transport.url, store, {
    renew: async ({ identity }) => {
      await held
      return { ...renewedOf(identity), renewAtMs: Date.now() + 1e9, expiresAtMs: Date.now() + 2e9 }
    },
  })
  device.connect()
  const first = await transport.connection()
  t.match(await first.next('HELLO'), { credential: { token: 'token' } })
  first.send(welcome())
  const renewed = event(device, 'renewed')
  release()
  await renewed
  await first.next('BYE')
  const second = await transport.connection()
  t.match(
    await second.next('HELLO'),
    { credential: { kind: 'token', token: 'token+' } },
    'the ticket is of the old one',
  )
})

t.test('a renewal that is refused ends the identity, and the state remembers it', async (t) => {
  for (const serverCode of ['token_expired', 'bad_token']) {
    const transport = await server(t)
    const store = knowing()
    const device = client(t, transport.url, store, {
      renew: async () => {
        throw new DeviceError('renew_refused', serverCode, { serverCode })
      },
    })
    const closed = new Promise((resolve) =>
      device.on('closed', (how) => {
        if (how.reconnectInMs === null) resolve(how)
      }),
    )
    const error = event<DeviceError>(device, 'error')
    device.connect()
    const peer = await transport.welcomed()
    peer.close('connection_ahead')
    t.match(await error, { code: 'renew_refused', serverCode, fatal: true })
    await closed
    t.equal(store.state.identity?.isOver, true)
  }
})

t.test('a device that does not know the core stops, as one of release 0.1', async (t) => {
  const transport = await server(t)
  const device = client(t, transport.url, memory())
  const error = event<DeviceError>(device, 'error')
  device.connect()
  const peer = await transport.welcomed()
  peer.close('token_expired')
  t.match(await error, { code: 'closed_by_server', serverCode: 'token_expired', fatal: true })
})

t.test('over HTTP: another token, refused for good, or to be tried again', async (t) => {
  const seen: string[] = []
  let [status, body, retryAfter] = [200, '', '']
  const http = createServer((request, response) => {
    seen.push(`${request.method} ${request.url} ${request.headers.authorization}`)
    if (retryAfter) response.setHeader('retry-after', retryAfter)
    response.writeHead(status).end(body)
  })
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve))
  t.teardown(() => http.close())
  const core = `http://127.0.0.1:${(http.address() as AddressInfo).port}`
  const identity = { ...IDENTITY, core }
  const ask = (url = core) => renew({ identity, core: url, random: () => 0.5 })
  const answer = { deviceId: IDENTITY.deviceId, token: 'next', transportUrl: 'ws://t' }
  const times = { expiresAt: '2030-01-01T00:00:40Z', renewFrom: '2030-01-01T00:00:30Z' }
  body = JSON.stringify({ ...answer, ...times })
  t.match(await ask(), { token: 'next', renewAtMs: Date.UTC(2030, 0, 1, 0, 0, 35), core })
  await ask(`${core}/behind/device/v1/enrol`)
  t.same(seen, ['POST /device/v1/renew Bearer token', 'POST /behind/device/v1/renew Bearer token'])
  body = JSON.stringify({ ...answer, deviceId: 'dev_2' })
  await t.rejects(ask(), { code: 'renew_unreachable' }, 'for another device')
  for (const [code, expected] of [
    [401, 'renew_refused'],
    [403, 'renew_refused'],
    [404, 'renew_unreachable'],
    [408, 'renew_unreachable'],
    [429, 'renew_unreachable'],
    [503, 'renew_unreachable'],
  ] as const) {
    status = code
    body = JSON.stringify({ error: { code: 'x', message: 'm' } })
    retryAfter = code === 429 ? '7' : ''
    await t.rejects(ask(), { code: expected, retryAfterMs: code === 429 ? 7_000 : 0 }, String(code))
  }
})

/** Renewals of a fleet on a virtual clock, as a core sees them that answers `perSecondMax` a second and refuses the rest. */
function fleetOf(count: number, lifeMs: number, perSecondMax: number, isOn = true) {
  const clock = new VirtualClock()
  const random = seeded(1)
  const arrivals = new Map<number, number>()
  const granted = new Map<number, number>()
  const core = { renewed: 0 }
  const startMs = clock.now()
  const add = (to: Map<number, number>) => {
    const second = Math.floor((clock.now() - startMs) / 1_000)
    to.set(second, (to.get(second) ?? 0) + 1)
    return to.get(second) ?? 0
  }
  const renewals = Array.from({ length: count }, (_, index) => {
    let identity: Identity = { ...IDENTITY, deviceId: `dev_${index}`, core: CORE, expiresAtMs: startMs + lifeMs }
    const renewal = new Renewal(
      {
        ...{ clock, random, settings: deviceSettings(), clockOffsetMs: () => 0 },
        identity: () => identity,
        renew: async () => {
          add(arrivals)
          if ((granted.get(Math.floor((clock.now() - startMs) / 1_000)) ?? 0) >= perSecondMax) {
            throw new DeviceError('renew_unreachable', 'too many', { retryAfterMs: 1_000 })
          }
          add(granted)
          core.renewed++
          const expiresAtMs = clock.now() + 1_000 * lifeMs
          return { ...identity, token: 'next', renewAtMs: expiresAtMs, expiresAtMs }
        },
      },
      {
        timeDrawn: (drawn) => {
          identity = drawn
        },
        renewed: (next) => {
          identity = next
        },
        refused: () => {},
        failed: () => {},
      },
    )
    if (isOn) renewal.start()
    return renewal
  })
  const peak = (of: Map<number, number>) => Math.max(0, ...of.values())
  return { clock, core, renewals, arrivals, peak: () => peak(arrivals), stop: () => renewals.map((one) => one.stop()) }
}

t.test('10,000 tokens that end at one time are renewed spread over a quarter of their life', async (t) => {
  const fleet = fleetOf(10_000, 1_600_000, 1e9)
  await fleet.clock.advance(1_200_000 - 1_000)
  t.equal(fleet.core.renewed, 0, 'none before the last quarter')
  await fleet.clock.advance(401_000)
  t.equal(fleet.core.renewed, 10_000, 'all before the end')
  t.ok(fleet.peak() <= 60, `25 a second on average, at most ${fleet.peak()}`)
  fleet.stop()
})

t.test('devices that were away until their tokens had ended: all are renewed, none is lost', async (t) => {
  const fleet = fleetOf(2_000, 1_000_000, 40, false)
  await fleet.clock.advance(1_100_000)
  for (const renewal of fleet.renewals) renewal.requestNow()
  await fleet.clock.advance(30_000)
  const within30 = fleet.core.renewed
  t.ok(within30 >= 400, `the core is not left idle: ${within30} of at most 1,200 within 30 seconds`)
  await fleet.clock.advance(270_000)
  t.equal(fleet.core.renewed, 2_000)
  fleet.stop()
})
