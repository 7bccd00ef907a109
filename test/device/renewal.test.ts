import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { renew } from '../../src/device/enrol.js'
import { DeviceError } from '../../src/device/index.js'
import { Renewal } from '../../src/device/renewal.js'
import { deviceSettings } from '../../src/device/settings.js'
import type { Identity } from '../../src/device/state/state.js'
import { VirtualClock } from '../sim/clock.js'
import { seeded } from '../sim/random.js'
import { welcome } from './scripted-server.js'
import { client, event, IDENTITY, memory, server } from './support.js'

/** Tests of token renewal: the client on a scripted transport, the HTTP request, and a fleet on a virtual clock. */
const CORE = 'http://core.example'
const renewedOf = (identity: Identity): Identity => ({ ...identity, token: `${identity.token}+` })

/** A state store whose identity has the URL of a core, so that the device can renew its token. */
function storeWithCore(core = CORE, fields: Partial<Identity> = {}) {
  const store = memory()
  store.state.apply({ kind: 'identity', identity: { ...IDENTITY, core, ...fields } })
  return store
}

t.test(
  'after token_expired the client renews its token, stores it, and reconnects with it as the same device',
  async (t) => {
    const transport = await server(t)
    const store = storeWithCore()
    let requests = 0
    const device = client(t, transport.url, store, {
      renew: async ({ identity }) => {
        requests++
        if (requests < 3) throw new DeviceError('renew_unreachable', 'the answer is lost')
        return renewedOf(identity)
      },
    })
    device.connect()
    const first = await transport.welcomed()
    first.close('token_expired')
    const second = await transport.connection()
    t.match(await second.next('HELLO'), { connection: 2, credential: { kind: 'token', token: 'token+' } })
    t.equal(requests, 3)
    t.match(store.state.identity, { token: 'token+', deviceId: IDENTITY.deviceId })
    t.equal(device.registrations.length, 1)
  },
)

t.test('a connected device renews its token before the end, and reconnects once with the new token', async (t) => {
  const transport = await server(t)
  const store = storeWithCore(CORE, { renewAtMs: 1, expiresAtMs: 2 })
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
    'the ticket belongs to the old token',
  )
})

for (const serverCode of ['token_expired', 'bad_token']) {
  t.test(`a renewal that is refused with ${serverCode} ends the identity in the stored state`, async (t) => {
    const transport = await server(t)
    const store = storeWithCore()
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
  })
}

t.test('a device without the URL of a core, as of release 0.1, stops at token_expired', async (t) => {
  const transport = await server(t)
  const device = client(t, transport.url, memory())
  const error = event<DeviceError>(device, 'error')
  device.connect()
  const peer = await transport.welcomed()
  peer.close('token_expired')
  t.match(await error, { code: 'closed_by_server', serverCode: 'token_expired', fatal: true })
})

/** An HTTP server in the place of the core, with one answer to every request; `requests` lists the requests. */
async function startCore(t: Test, status: number, body: object, headers: Record<string, string> = {}) {
  const requests: string[] = []
  const http = createServer((request, response) => {
    requests.push(`${request.method} ${request.url} ${request.headers.authorization}`)
    response.writeHead(status, headers).end(JSON.stringify(body))
  })
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve))
  t.teardown(() => http.close())
  return { core: `http://127.0.0.1:${(http.address() as AddressInfo).port}`, requests }
}

const RENEWED = {
  ...{ deviceId: IDENTITY.deviceId, token: 'next', transportUrl: 'ws://t' },
  ...{ expiresAt: '2030-01-01T00:00:40Z', renewFrom: '2030-01-01T00:00:30Z' },
}

const renewAt = (core: string) => renew({ identity: { ...IDENTITY, core }, core, random: () => 0.5 })

t.test('renew posts the token to the core and draws the next renewal from the second half of the span', async (t) => {
  const { core, requests } = await startCore(t, 200, RENEWED)
  t.match(await renewAt(core), { token: 'next', renewAtMs: Date.UTC(2030, 0, 1, 0, 0, 35), core })
  t.same(requests, ['POST /device/v1/renew Bearer token'])
})

t.test('renew keeps the path prefix of an enrolment URL', async (t) => {
  const { core, requests } = await startCore(t, 200, RENEWED)
  await renewAt(`${core}/behind/device/v1/enrol`)
  t.same(requests, ['POST /behind/device/v1/renew Bearer token'])
})

t.test('a renewed token for another device is renew_unreachable', async (t) => {
  const { core } = await startCore(t, 200, { ...RENEWED, deviceId: 'dev_2' })
  await t.rejects(renewAt(core), { code: 'renew_unreachable' })
})

for (const [status, code] of [
  [401, 'renew_refused'],
  [403, 'renew_refused'],
  [404, 'renew_unreachable'],
  [408, 'renew_unreachable'],
  [429, 'renew_unreachable'],
  [503, 'renew_unreachable'],
] as const) {
  t.test(`a renewal that is answered with ${status} is ${code}`, async (t) => {
    const headers: Record<string, string> = status === 429 ? { 'retry-after': '7' } : {}
    const { core } = await startCore(t, status, { error: { code: 'x', message: 'm' } }, headers)
    await t.rejects(renewAt(core), { code, retryAfterMs: status === 429 ? 7_000 : 0 })
  })
}

/** The renewals of a fleet on a virtual clock, at a core that grants `perSecondMax` a second and refuses the rest. */
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

t.test('10,000 tokens with one end are renewed evenly over the last quarter of their life', async (t) => {
  const fleet = fleetOf(10_000, 1_600_000, 1e9)
  await fleet.clock.advance(1_200_000 - 1_000)
  t.equal(fleet.core.renewed, 0, 'before the last quarter')
  await fleet.clock.advance(401_000)
  t.equal(fleet.core.renewed, 10_000, 'before the end')
  t.ok(fleet.peak() <= 60, `the average is 25 a second, the peak ${fleet.peak()}`)
  fleet.stop()
})

t.test(
  '2,000 devices whose tokens ended while they were away are all renewed, at the rate that the core grants',
  async (t) => {
    const fleet = fleetOf(2_000, 1_000_000, 40, false)
    await fleet.clock.advance(1_100_000)
    for (const renewal of fleet.renewals) renewal.requestNow()
    await fleet.clock.advance(30_000)
    const within30 = fleet.core.renewed
    t.ok(within30 >= 400, `${within30} of at most 1,200 renewals in the first 30 seconds`)
    await fleet.clock.advance(270_000)
    t.equal(fleet.core.renewed, 2_000)
    fleet.stop()
  },
)
