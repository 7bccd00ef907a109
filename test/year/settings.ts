/** The settings of the year's installation: those that it ships with, and what is smaller or coarser, each with its reason. */
import { Value } from 'typebox/value'
import { AdminApiSettings, HttpSettings, LimitSettings } from '../../src/core/api/settings.js'
import type { CoreOptions } from '../../src/core/core.js'
import { DeviceLimits, MessageLimits } from '../../src/core/domain/limits.js'
import { IngressSettings } from '../../src/core/ingress/settings.js'
import { WebhookSettings } from '../../src/core/outcomes/webhooks/settings.js'
import { CoreSettings } from '../../src/core/settings.js'
import { AuthSettings } from '../../src/core/tenants/auth/settings.js'
import type { StoreSettings } from '../../src/nats/settings.js'
import { TransportSettings } from '../../src/transport/settings.js'
import { noFaults } from '../sim/faults.js'
import { ISSUER } from '../sim/identities.js'
import type { Plan } from '../sim/plan.js'
import { PUBLIC_URL } from './http.js'

export const SPLIT = 2
export const CORES = 2
export const WORKERS = 2

const KIB = 1024

export const messagesADay = (devices: number) => Math.min(80, Math.max(6, Math.floor(devices / 20)))
/** Targets of one campaign, at most. */
export const campaignMax = (devices: number) => Math.min(500, Math.ceil(devices * 0.44))

/** Of each stream, so much is kept free of what is accepted (RESERVE_BYTES_MIN). */
const RESERVE_BYTES = 64 * KIB
/** What EVENTS owes to a target until it ends, and what SCHEDULE needs for it: upper bounds (delivery/room/owed.ts). */
const OWED_BYTES = 1_120
const SCHEDULED_BYTES = 1_200
/** History fills the rest: it gives way from 80% on. The targets of a campaign are not spread evenly over the streams. */
const OWED_SHARE = 0.12
/** The queue of a device overflows, and the events of all its messages stay for `core.historyMinMs`. */
const EVENTS_BYTES_MIN = 192 * KIB

/**
 * Small, so that a year of this fleet fills what many years of a large one would: history gives way long before its age,
 * and SCHEDULE has room for one campaign and not for two. A smaller EVENTS could never take a whole campaign.
 */
export function storeSettings(devices: number): Partial<StoreSettings> {
  const targets = campaignMax(devices)
  return {
    split: SPLIT,
    eventsBytesMax: Math.max(EVENTS_BYTES_MIN, RESERVE_BYTES + Math.ceil((targets * OWED_BYTES) / SPLIT / OWED_SHARE)),
    scheduleBytesMax: RESERVE_BYTES + targets * SCHEDULED_BYTES,
  }
}

export function coreSettings(): CoreOptions['settings'] {
  return {
    core: {
      ...(Value.Default(CoreSettings, {}) as CoreSettings),
      // A whole night of spans is looked through each morning: coarser ones are fewer.
      expiryBucketMs: 60_000,
      expiryLookBack: 3,
    },
    split: SPLIT,
    http: { ...(Value.Default(HttpSettings, {}) as HttpSettings), publicUrl: PUBLIC_URL },
    adminApi: { ...(Value.Default(AdminApiSettings, {}) as AdminApiSettings), port: 8081 },
    auth: {
      ...(Value.Default(AuthSettings, {}) as AuthSettings),
      issuer: ISSUER,
      transportUrl: 'ws://push.sim/v1/device',
    },
    messages: Value.Default(MessageLimits, {}) as MessageLimits,
    devices: Value.Default(DeviceLimits, {}) as DeviceLimits,
    ingress: Value.Default(IngressSettings, {}) as IngressSettings,
    limits: Value.Default(LimitSettings, {}) as LimitSettings,
    webhooks: Value.Default(WebhookSettings, {}) as WebhookSettings,
  }
}

/** What the parts of the simulation ask a plan for. Nothing but what the calendar says goes wrong. */
export function planFor(devices: number, core: CoreSettings): Plan {
  return {
    calm: false,
    cores: CORES,
    workers: WORKERS,
    devices,
    split: SPLIT,
    producers: 0,
    messagesMax: 0,
    gapMs: [0, 0],
    busyMs: 0,
    faultGapMs: [0, 0],
    faults: noFaults,
    failWrite: 0,
    core,
    transport: { ...(Value.Default(TransportSettings, {}) as TransportSettings), instance: 'year' },
    device: {},
    tight: {},
  }
}
