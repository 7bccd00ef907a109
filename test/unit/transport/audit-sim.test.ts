/**
 * A store that answers later than the connection comes back, on virtual time: what could not be looked at after a
 * reconnect is looked at again soon, and not in the next slow round.
 */
import t from 'tap'
import { Value } from 'typebox/value'
import { decodeFrames } from '../../../protocol/decode.js'
import { encodeFrame } from '../../../protocol/encode.js'
import { SERVER_FRAME_BYTES_MAX } from '../../../protocol/frame.js'
import { BROADCAST_STREAM, Bucket } from '../../../protocol/subjects.js'
import { mintDeviceToken } from '../../../src/device-token.js'
import { type Fabric, FabricError, type Log, type Table } from '../../../src/fabric/fabric.js'
import { Keyring } from '../../../src/keyring.js'
import { silentLogger } from '../../../src/observe/log.js'
import { ParkedQueue } from '../../../src/store/parked.js'
import { TransportSettings } from '../../../src/transport/settings.js'
import { Worker } from '../../../src/transport/worker.js'
import { SimFabric } from '../../sim/fabric.js'
import { newDevice, storedMessage } from '../../support/transport.js'
import { SimSockets } from './sim-sockets.js'

const keyring = Keyring.generate(0)
const settings = Value.Default(TransportSettings, {}) as TransportSettings

/** While `down` is true the session table cannot be read, and the log of group messages says nothing about itself. */
class LateStore {
  down = false
  refused = 0
  incarnation: number | null = null

  over(fabric: Fabric): Fabric {
    return {
      bus: fabric.bus,
      connected: () => fabric.connected(),
      onStatus: (handler) => fabric.onStatus(handler),
      close: () => fabric.close(),
      table: (name) => (name === Bucket.SESSIONS ? this.lateTable(fabric.table(name)) : fabric.table(name)),
      log: (name) => (name === BROADCAST_STREAM ? this.lateLog(fabric.log(name)) : fabric.log(name)),
    }
  }

  private lateTable(table: Table): Table {
    return overriding(table, { get: (key, options) => (this.down ? this.refuse() : table.get(key, options)) })
  }

  private lateLog(log: Log): Log {
    return overriding(log, {
      state: async () => {
        if (this.down) return this.refuse()
        const state = await log.state()
        return { ...state, incarnation: this.incarnation ?? state.incarnation }
      },
    })
  }

  private refuse(): Promise<never> {
    this.refused++
    return Promise.reject(new FabricError('unavailable', 'no leader yet'))
  }
}

function overriding<T extends object>(target: T, own: Partial<T>): T {
  return new Proxy(target, {
    get: (_, name) => {
      const value: unknown = Reflect.get(Reflect.has(own, name) ? own : target, name)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}

async function connectedDevice() {
  const sim = new SimFabric({ seed: 1 })
  const { clock } = sim
  const store = new LateStore()
  const fabric = sim.fabricFor('worker')
  const sockets = new SimSockets({ clock: fabric.clock })
  const worker = new Worker({
    ...{ fabric: store.over(fabric), sockets, settings, clock: fabric.clock, split: 4, issuer: 'sim', worker: '0-1' },
    ...{
      keys: keyring.transportKeys(),
      connectionsMax: 100,
      descriptors: () => null,
      log: silentLogger,
      lagMs: () => 0,
    },
  })
  await clock.settle(worker.start())
  const device = newDevice()
  const end = sockets.connect()
  if (!end) throw new Error('the worker takes no connection')
  const frames: string[] = []
  end.onMessage = (bytes) => {
    const decoded = decodeFrames(bytes, { from: 'server', frameBytesMax: SERVER_FRAME_BYTES_MAX })
    frames.push(...decoded.frames.map(({ type }) => type))
  }
  let closedWith = 0
  end.onClosed = (code) => {
    closedWith = code
  }
  const request = { issuer: 'sim', device, fleet: 'f', nowMs: clock.now(), lifetimeMs: 1e9 }
  const { token } = mintDeviceToken(keyring.signingKey('deviceToken'), request)
  const hello = { version: 1, credential: { kind: 'token', token }, connection: 1, client: null } as const
  end.send(encodeFrame({ type: 'HELLO', ...hello, cursor: null, gap: null }))
  await clock.run(1_000)
  const parked = new ParkedQueue(sim.fabricFor('core'), 4)
  return {
    ...{ clock, store, fabric, frames, device },
    closedWith: () => closedWith,
    park: () => {
      const message = { ...storedMessage(device, 41n), expiresAtMs: clock.now() + 1e6 }
      const record = { previous: 0, depth: 1, queue: 1n, dropped: 0, victims: [], parkedAtMs: clock.now(), older: [] }
      return clock.settle(parked.append(device, { ...record, message }, 0))
    },
    stop: async () => {
      await clock.settle(worker.stop())
      await fabric.close()
    },
  }
}

t.test('an audit that could not read is made up for', async (t) => {
  const { clock, store, fabric, frames, park, stop } = await connectedDevice()
  t.ok(frames.includes('CAUGHT_UP'))
  store.down = true
  fabric.cutOff()
  await park()
  await clock.run(5_000)
  t.ok(fabric.connected(), 'back')
  t.ok(store.refused > 0, 'and refused')
  t.notOk(frames.includes('NOTIFY'))
  store.down = false
  await clock.run(5_000)
  t.ok(frames.includes('NOTIFY'), 'long before the slow round')
  await stop()
})

t.test('so is the look at the log of group messages', async (t) => {
  const { clock, store, fabric, closedWith, stop } = await connectedDevice()
  store.down = true
  fabric.cutOff()
  await clock.run(5_000)
  t.ok(store.refused > 0)
  t.equal(closedWith(), 0)
  store.incarnation = 7
  store.down = false
  await clock.run(5_000)
  t.not(closedWith(), 0, 'devices come back for a new cursor')
  await stop()
})
