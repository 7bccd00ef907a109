/** The delivery steps of a core on any Broker, with short intervals, and helpers that wait for their records. */
import { Value } from 'typebox/value'
import { partitionOf } from '../../protocol/message-id.js'
import { messageByIdFilter, messagesStream } from '../../protocol/subjects.js'
import { type Clock, sleep, systemClock } from '../../src/clock.js'
import { type Delivery, startDelivery } from '../../src/core/delivery/delivery.js'
import type { AcceptCommand, AcceptTarget } from '../../src/core/domain/commands.js'
import { CoreSettings } from '../../src/core/settings.js'
import { publishEnded } from '../../src/core/tenants/ended-registrations.js'
import type { Broker } from '../../src/nats/broker.js'
import { createLogger, silentLogger } from '../../src/observe/log.js'
import { EventLog, type FinalEvent } from '../../src/store/events.js'
import { DeviceQueue } from '../../src/store/queue.js'
import { SplitLog } from '../../src/store/split.js'

export const PROJECT = 'acme'
export const APPLICATION = 'app_aaaaaaaaaaaaaaaaaaaa'

export const quickSettings: CoreSettings = {
  ...(Value.Default(CoreSettings, {}) as CoreSettings),
  leaseMs: 600,
  ackWaitMs: 1_000,
  silentMs: 200,
  sweepMs: 20,
  controlTimeoutMs: 300,
  retryMs: 50,
  drainMs: 500,
  expiryBucketMs: 500,
  checkpointMs: 50,
}

export function deviceName(n: number): string {
  return `dev_${n.toString(36).padStart(20, '0')}`
}

export function targetOf(device: string, registration = 1): AcceptTarget {
  return { application: APPLICATION, device, registration, registrationId: `${device}/${registration}` }
}

export function messageTo(devices: string[], changes: Partial<AcceptCommand> = {}): AcceptCommand {
  return {
    project: PROJECT,
    type: devices.length === 1 ? 'device' : 'devices',
    targets: devices.map((device) => targetOf(device)),
    group: null,
    ttlMs: 3_600_000,
    notBeforeMs: null,
    priority: 'normal',
    collapseKey: '',
    title: 'title',
    message: 'message',
    data: new Uint8Array(),
    ...changes,
  }
}

export interface TestCore extends Delivery {
  readonly events: EventLog
  readonly queue: DeviceQueue
  /** Resolves with the final event of a target. */
  final(id: bigint): Promise<FinalEvent>
  /** Resolves when MESSAGES no longer has the record of the target, that is, when the core has acknowledged it. */
  acknowledged(device: string, id: bigint): Promise<void>
  /** True while MESSAGES has the record of the target. */
  isStored(device: string, id: bigint): Promise<boolean>
}

export async function startTestCore(
  broker: Broker,
  split: number,
  settings: Partial<CoreSettings> = {},
  clock: Clock = systemClock,
  random: () => number = Math.random,
  /** The connection with which the test reads. It is not the core's own if the test crashes the core. */
  observer: Broker = broker,
): Promise<TestCore> {
  const delivery = await startDelivery({
    broker,
    clock,
    random,
    settings: { ...quickSettings, ...settings },
    split,
    log: process.env.TEST_LOG ? createLogger('core', { level: 'debug', format: 'text' }) : silentLogger,
    registrationIdOf: ({ device, registration }) => `${device}/${registration}`,
    onEnded: (device, registration) => publishEnded(broker.bus, device, registration),
  })
  const observed = observer === broker ? clock : ((observer as { clock?: Clock }).clock ?? clock)
  const events = new EventLog(observer, split, 'test')
  const messages = new SplitLog(observer, messagesStream, split)
  const isStored = async (device: string, id: bigint) =>
    (await messages.ofDevice(device).next(messageByIdFilter(partitionOf(device), id), 1)) !== null
  return {
    ...delivery,
    events,
    queue: new DeviceQueue(observer, split),
    isStored,
    final: (id) => eventually(observed, `the end of ${id}`, () => events.readFinal(id)),
    acknowledged: async (device, id) => {
      await eventually(observed, `the acknowledgement of ${id}`, async () =>
        (await isStored(device, id)) ? null : true,
      )
    },
  }
}

const POLL_MS = 5
const PATIENCE_MS = 60_000

/** Polls a store, which has no event to await, until `read` returns a value. `what` names the value in the error. */
export async function eventually<T>(clock: Clock, what: string, read: () => Promise<T | null>): Promise<T> {
  for (const deadlineMs = clock.now() + PATIENCE_MS; clock.now() < deadlineMs; await sleep(clock, POLL_MS)) {
    const value = await read()
    if (value !== null) return value
  }
  throw new Error(`${what} did not come within ${PATIENCE_MS} ms`)
}
