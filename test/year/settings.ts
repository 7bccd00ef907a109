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

/** Small, so that a year of this fleet fills what many years of a large one would: history gives way, and SCHEDULE refuses. */
export function storeSettings(devices: number): Partial<StoreSettings> {
  return {
    split: SPLIT,
    eventsBytesMax: Math.max(192 * KIB, devices * KIB),
    scheduleBytesMax: Math.max(128 * KIB, devices * KIB),
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
