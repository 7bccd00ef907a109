/** The plan of one run, drawn from its seed: the size of the world, the settings of its parts, and the fault rates. */
import { Value } from 'typebox/value'
import { CoreSettings } from '../../src/core/settings.js'
import type { DeviceSettings } from '../../src/device/settings.js'
import type { StoreSettings } from '../../src/nats/settings.js'
import { TransportSettings } from '../../src/transport/settings.js'
import type { Faults } from './faults.js'
import { between, type Random } from './random.js'

export interface Plan {
  /** No faults: devices only connect and disconnect in order. Such a run also checks the order of messages (I3). */
  calm: boolean
  cores: number
  workers: number
  devices: number
  split: number
  producers: number
  /** Upper bound of the messages of one producer. */
  messagesMax: number
  /** Time between two messages of a producer. */
  gapMs: readonly [number, number]
  /** How long messages are sent and faults are injected. */
  busyMs: number
  /** Time between two injected faults (chaos.ts). */
  faultGapMs: readonly [number, number]
  /** Rates of the faults that hit single NATS messages throughout. */
  faults: Partial<Faults>
  /** Probability that a write to a device's disk fails. */
  failWrite: number
  core: CoreSettings
  transport: TransportSettings
  device: Partial<DeviceSettings>
  /** Limits of streams so small that the run reaches them; empty in most plans. */
  tight: Partial<StoreSettings>
}

const CORE = Value.Default(CoreSettings, {}) as CoreSettings
const TRANSPORT = Value.Default(TransportSettings, {}) as TransportSettings

/** How long a silent NATS connection stays up. Shorter than in production, to keep runs short. */
export const SILENT_MS = 6_000

export function planOf(random: Random): Plan {
  const chance = (probability: number) => random() < probability
  const some = <T>(...values: T[]): T => values[between(random, [0, values.length - 1])] as T
  const calm = chance(0.2)
  const split = some(1, 1, 2)
  const tight = chance(0.15) ? tightStore(some) : {}
  return {
    calm,
    cores: some(1, 2, 2),
    workers: some(1, 2, 2, 3),
    devices: some(1, 2, 3, 4, 6),
    split,
    producers: some(1, 2, 3),
    messagesMax: some(5, 15, 40),
    gapMs: some([1, 20], [20, 400], [100, 1_500]),
    busyMs: some(4_000, 8_000, 16_000),
    faultGapMs: some([100, 1_500], [500, 4_000], [2_000, 8_000]),
    faults: calm ? {} : messageFaults(random),
    failWrite: calm ? 0 : some(0, 0, 0.01),
    core: {
      ...CORE,
      leaseMs: 3_000,
      routePendingMax: some(4, 64, 1_000),
      // Without faults no device is silent. A slow app fills its window for long, which must not count as silence.
      ackWaitMs: calm ? 90_000 : some(2_500, 6_000),
      silentMs: calm ? 60_000 : some(400, 1_500),
      sweepMs: 200,
      batchItemsMax: some(2, 256),
      sessionsCachedMax: some(1, 1_000),
      queueMax: some(2, 4, 100),
      controlTimeoutMs: some(300, 1_000),
      retryMs: some(100, 500),
      drainMs: 1_000,
      expiryBucketMs: 1_000,
      checkpointMs: some(500, 2_000),
      // Longer than an app server repeats a message, and than a message of this world is delivered again.
      historyMinMs: 40_000,
    },
    tight,
    transport: {
      ...TRANSPORT,
      instance: 'sim',
      keepaliveMs: 8_000,
      windowMax: some(1, 2, 8, 64),
      heldMax: some(1, 4, 64),
      backpressureBytesMax: some(600, 1_048_576),
      catchUpsInFlightMax: some(1, 64),
      catchUpBufferedBytesMax: some(300, 65_536),
      groupCacheBytesMax: some(1, 400, 65_536),
      groupTopicsMax: some(1, 65_536),
      settlesMax: some(2, 1_000),
      settleRepeatMs: 500,
      coreTimeoutMs: 2_000,
      auditMs: some(10_000, 100_000_000),
      drainMs: 500,
      drainJitterMs: some(0, 500),
      drainGraceMs: 500,
      ticketSeconds: some(10, 86_400),
      tombstoneDelayMs: some(1, 400, 30_000),
      tombstonesWaitingMax: some(1, 20_000),
    },
    device: {
      reconnectBaseMs: 200,
      reconnectCapMs: 2_000,
      stableMs: 2_000,
      connectTimeoutMs: 3_000,
      welcomeTimeoutMs: 4_000,
      pongTimeoutMs: 3_000,
      requestTimeoutMs: 4_000,
      requestAttemptsMax: 20,
      inboxMax: some(2, 1_000),
    },
  }
}

const KIB = 1_024

/** Gives one or two streams a limit just above the reserve that accepting must leave free (RESERVE_BYTES_MIN). */
function tightStore(some: <T>(...values: T[]) => T): Partial<StoreSettings> {
  const one = () => {
    const key = some('events', 'events', 'queue', 'expiry', 'messages', 'schedule') satisfies string
    return { [`${key}BytesMax`]: some(96, 104, 120) * KIB }
  }
  return { ...one(), ...one() }
}

function messageFaults(random: Random): Partial<Faults> {
  const often = (high: number) => (random() < 0.35 ? random() * high : 0)
  return {
    latencyMs: random() < 0.3 ? [1, 60] : [1, 4],
    overtake: often(0.5),
    dropCore: often(0.2),
    loseRequest: often(0.08),
    loseAnswer: often(0.08),
    refuseAppend: often(0.08),
    loseAck: often(0.2),
    redeliver: often(0.2),
    tailDelayMs: random() < 0.3 ? [0, 400] : [0, 0],
    staleRead: often(0.5),
    staleMs: random() < 0.5 ? [1, 500] : [1, 4_000],
    undoDelete: often(1),
    reconnectMs: [50, 800],
  }
}
