/** One transport worker on real ports. The test plays the core on the worker's NATS subjects. */
import { randomBytes } from 'node:crypto'
import type { Test } from 'tap'
import { Value } from 'typebox/value'
import { encodeNotify } from '../../protocol/encode.js'
import {
  type ControlReply,
  type ControlRequest,
  decodeControlReply,
  decodeRxBatch,
  decodeSettleRequest,
  encodeControlRequest,
  encodeSettleReply,
  encodeTxBatch,
  type RxItem,
  type SettleItem,
  type StoredMessage,
} from '../../protocol/envelope.js'
import {
  Bucket,
  controlAnswers,
  controlSubject,
  rxSubject,
  SETTLE_SUBJECT,
  txSubject,
} from '../../protocol/subjects.js'
import { systemClock } from '../../src/clock.js'
import { mintDeviceToken } from '../../src/device-token.js'
import { Keyring } from '../../src/keyring.js'
import type { Broker } from '../../src/nats/broker.js'
import { createLogger, silentLogger } from '../../src/observe/log.js'
import { DeviceStore } from '../../src/store/devices.js'
import { DeviceQueue } from '../../src/store/queue.js'
import { SessionTable } from '../../src/store/sessions.js'
import { TransportSettings } from '../../src/transport/settings.js'
import { type RunningWorker, startWorker } from '../../src/transport/supervisor/worker-process.js'
import { startNats, type TestNats } from './nats.js'

export const ISSUER = 'https://push.test'
export const ROUTER = 'test-router'

export interface TestTransport {
  nats: TestNats
  /** A connection in the role of the core. */
  core: Broker
  worker: RunningWorker
  sessions: SessionTable
  queued: DeviceQueue
  devices: DeviceStore
  keyring: Keyring
  /** A device token. All tokens of a test are issued at the same time, this one `issuedLaterMs` later. */
  tokenOf(device: string, lifetimeMs?: number, issuedLaterMs?: number): string
  credential(device: string): { kind: 'token'; token: string }
  /** Starts another worker, of the same instance or of another one. */
  startAnother(settings?: Partial<TransportSettings>): Promise<RunningWorker>
  /** Publishes one message to the worker, as a router does. */
  deliver(
    device: string,
    id: bigint,
    options?: { atMs?: number; expiresAtMs?: number; worker?: RunningWorker; title?: string },
  ): void
  /** Resolves with the report of the worker for a message. */
  report(id: bigint): Promise<RxItem>
  reports: RxItem[]
  control(request: ControlRequest, worker?: RunningWorker): Promise<ControlReply>
  /** Appends a message to the device's queue as the core does, without asking the worker. */
  enqueue(device: string, id: bigint, options?: { dropped?: number; queue?: bigint }): Promise<number>
  /** The settlements that the worker requested. Each is carried out and then confirmed. */
  settled: SettleItem[]
  /** Resolves when the settlement of a message is carried out. */
  settlement(id: bigint): Promise<SettleItem>
}

const defaults = Value.Default(TransportSettings, {}) as TransportSettings

/** The fleet of all devices of these tests. */
export const FLEET = 'fleet_0123456789ab'

export const newDevice = (): string => `dev_${randomBytes(10).toString('hex')}`

export async function startTransport(
  t: Pick<Test, 'teardown'>,
  overrides: Partial<TransportSettings> = {},
  present?: TestNats,
): Promise<TestTransport> {
  const nats = present ?? (await startNats(t))
  const core = await nats.brokerAs('core')
  const keyring = Keyring.generate(Date.now())
  const startAnother = async (own: Partial<TransportSettings> = {}, index = 0): Promise<RunningWorker> => {
    const settings = { ...defaults, host: '127.0.0.1', port: 0, drainJitterMs: 0, drainGraceMs: 200, ...own }
    const broker = await nats.brokerAs('transport')
    const running = await startWorker({
      broker,
      clock: systemClock,
      settings,
      split: nats.store.split,
      keys: keyring.transportKeys(),
      issuer: ISSUER,
      index,
      log: process.env.TEST_LOG ? createLogger('transport', { level: 'debug', format: 'text' }) : silentLogger,
    })
    let stopped: Promise<void> | null = null
    const worker = {
      ...running,
      stop: () => {
        stopped ??= running.stop()
        return stopped
      },
    }
    t.teardown(() => worker.stop())
    return worker
  }
  const worker = await startAnother(overrides)
  const queued = new DeviceQueue(core, nats.store.split)
  const reports: RxItem[] = []
  const waiting = new Map<bigint, (item: RxItem) => void>()
  const waitingSettled = new Map<bigint, (item: SettleItem) => void>()
  core.bus.subscribe(rxSubject(ROUTER), ({ body }) => {
    for (const item of decodeRxBatch(body).items) {
      reports.push(item)
      waiting.get(item.id)?.(item)
    }
  })
  const settled: SettleItem[] = []
  core.bus.subscribe(SETTLE_SUBJECT, ({ body, reply }) => {
    const { items } = decodeSettleRequest(body)
    void Promise.all(
      items.map(async (item) => {
        await queued.delete(item.device, [item.queueSequence])
        settled.push(item)
        waitingSettled.get(item.id)?.(item)
        return item.queueSequence
      }),
    ).then((sequences) => core.bus.publish(reply, encodeSettleReply(sequences)))
  })
  // All tokens have one time of issue: a later one would begin a new fence of connection numbers.
  const issuedAtMs = Date.now()
  const tokenOf = (device: string, lifetimeMs = 3_600_000, issuedLaterMs = 0) => {
    const key = keyring.signingKey('deviceToken')
    const nowMs = issuedAtMs + issuedLaterMs
    return mintDeviceToken(key, { issuer: ISSUER, device, fleet: FLEET, nowMs, lifetimeMs }).token
  }
  return {
    ...{ nats, core, worker, queued, keyring, reports, settled, tokenOf },
    sessions: new SessionTable(core.table(Bucket.SESSIONS), systemClock),
    devices: new DeviceStore(core.table(Bucket.DEVICES)),
    credential: (device) => ({ kind: 'token', token: tokenOf(device) }),
    startAnother: (own) => startAnother({ ...overrides, ...own }, 1),
    deliver: (device, id, { atMs = Date.now(), expiresAtMs = atMs + 60_000, worker: to = worker, title = '' } = {}) => {
      const frame = notifyFrame(id, title)
      const { instance, worker: name } = to.worker.owner
      core.bus.publish(
        txSubject(instance, name),
        encodeTxBatch({ router: ROUTER, atMs, items: [{ id, device, expiresAtMs, frame }] }),
      )
    },
    report: (id) =>
      new Promise((resolve) => {
        const known = reports.find((item) => item.id === id)
        if (known) resolve(known)
        else waiting.set(id, resolve)
      }),
    settlement: (id) =>
      new Promise((resolve) => {
        const known = settled.find((item) => item.id === id)
        if (known) resolve(known)
        else waitingSettled.set(id, resolve)
      }),
    control: async (request, to = worker) => {
      const { instance, worker: name } = to.worker.owner
      const body = encodeControlRequest(request)
      return decodeControlReply(
        await core.bus.request(controlSubject(instance, name), body, {
          timeoutMs: 20_000,
          answersUnder: controlAnswers(instance),
        }),
      )
    },
    enqueue: async (device, id, { dropped = 0, queue = 1n } = {}) => {
      const last = await queued.last(device)
      const record = {
        previous: last?.sequence ?? 0,
        depth: (last?.record.depth ?? 0) + 1,
        queue,
        dropped,
        evicted: [],
        queuedAtMs: Date.now(),
        message: storedMessage(device, id),
        older: [],
      }
      return queued.append(device, record, last?.sequence ?? 0)
    },
  }
}

export function storedMessage(device: string, id: bigint): StoredMessage {
  return {
    ...{ id, parent: id, project: 'acme', application: 'app_x', device, registration: 1, collapseKey: '' },
    acceptedAtMs: Date.now(),
    expiresAtMs: Date.now() + 3_600_000,
    frame: notifyFrame(id),
  }
}

export function notifyFrame(id: bigint, title = ''): Uint8Array {
  const content = { expiresAtSeconds: 4_000_000_000, priority: 'normal', collapseKey: '', message: 'hello' } as const
  return encodeNotify({ id, registration: 1, title, data: new Uint8Array(), ...content })
}
