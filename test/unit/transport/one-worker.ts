/** One worker with one device on virtual time, for tests of a single connection. */
import { Value } from 'typebox/value'
import { decodeFrames } from '../../../protocol/decode.js'
import { encodeFrame } from '../../../protocol/encode.js'
import { SERVER_FRAME_BYTES_MAX } from '../../../protocol/frame.js'
import type { Cursor, HelloFrame, ServerFrame } from '../../../protocol/frame-types.js'
import { mintDeviceToken } from '../../../src/device-token.js'
import { Keyring } from '../../../src/keyring.js'
import type { Broker } from '../../../src/nats/broker.js'
import { silentLogger } from '../../../src/observe/log.js'
import { DeviceQueue } from '../../../src/store/queue.js'
import { type Ticket, TicketBox } from '../../../src/transport/admission/ticket.js'
import { TransportSettings } from '../../../src/transport/settings.js'
import { Worker } from '../../../src/transport/worker.js'
import { SimBroker, type SimBrokerOptions } from '../../sim/broker.js'
import { newDevice, storedMessage } from '../../support/transport.js'
import { SimSockets } from './sim-sockets.js'

type Credential = HelloFrame['credential']

const SPLIT = 4
const ISSUER = 'sim'
const keyring = Keyring.generate(0)

export interface OneWorkerOptions extends SimBrokerOptions {
  settings?: Partial<TransportSettings>
  /** Wraps the worker's broker. By default the worker gets it as it is. */
  over?: (broker: Broker) => Broker
}

export type OneWorker = Awaited<ReturnType<typeof oneWorker>>

export async function oneWorker({ settings, over = (broker) => broker, ...options }: OneWorkerOptions = {}) {
  const sim = new SimBroker({ seed: 1, ...options })
  const { clock } = sim
  const broker = sim.brokerFor('worker')
  const sockets = new SimSockets({ clock })
  const worker = new Worker({
    ...{ broker: over(broker), sockets, clock: broker.clock, split: SPLIT, issuer: ISSUER, worker: '0-1' },
    settings: { ...(Value.Default(TransportSettings, {}) as TransportSettings), ...settings },
    ...{
      keys: keyring.transportKeys(),
      connectionsMax: 100,
      descriptors: () => null,
      log: silentLogger,
      lagMs: () => 0,
    },
  })
  await clock.advanceUntil(worker.start())
  const device = newDevice()
  const issuedAtMs = clock.now()
  const core = sim.brokerFor('core')
  const queued = new DeviceQueue(core, SPLIT)
  return {
    ...{ sim, clock, broker, sockets, worker, device, core },
    /** Connects with a token and sends HELLO: this device, or another one. */
    connect: (cursor: Cursor | null = null, who = device, connection = 1) =>
      connect(sockets, tokenOf(who, issuedAtMs), cursor, connection),
    /** Connects with the ticket of an earlier session, of this worker or another. */
    resume: (ticket: Omit<Ticket, keyof typeof LASTING>, connection: number) =>
      connect(sockets, ticketOf({ ...ticket, ...LASTING }), null, connection),
    /** Appends a message as the first record of the device's queue. */
    enqueue: (id: bigint) => {
      const message = { ...storedMessage(device, id), expiresAtMs: clock.now() + 1e6 }
      const record = { previous: 0, depth: 1, queue: 1n, dropped: 0, evicted: [], queuedAtMs: clock.now(), older: [] }
      return queued.append(device, { ...record, message }, 0)
    },
    stop: async () => {
      await clock.advanceUntil(worker.stop())
      await broker.close()
    },
  }
}

const LASTING = { subscriptions: 0, expiresAtMs: 4e12, tokenExpiresAtMs: 4e12, tokenIssuedAtMs: 0, fleet: '' }

function ticketOf(ticket: Ticket): Credential {
  return { kind: 'ticket', ticket: new TicketBox(keyring.transportKeys().tickets).seal(ticket) }
}

function tokenOf(device: string, nowMs: number): Credential {
  const request = { issuer: ISSUER, device, fleet: 'f', nowMs, lifetimeMs: 1e9 }
  return { kind: 'token', token: mintDeviceToken(keyring.signingKey('deviceToken'), request).token }
}

function connect(sockets: SimSockets, credential: Credential, cursor: Cursor | null, connection: number) {
  const end = sockets.connect()
  if (!end) throw new Error('the worker refused the connection')
  const frames: ServerFrame[] = []
  const closes: number[] = []
  end.onMessage = (bytes) => {
    const decoded = decodeFrames(bytes, { from: 'server', frameBytesMax: SERVER_FRAME_BYTES_MAX })
    frames.push(...(decoded.frames as ServerFrame[]))
  }
  end.onClosed = (code) => closes.push(code)
  const hello = { version: 1, credential, connection, client: null } as const
  end.send(encodeFrame({ type: 'HELLO', ...hello, cursor, gap: null }))
  const ofType = (type: ServerFrame['type']) => frames.filter((frame) => frame.type === type).length
  return { end, frames, closes, ofType }
}
