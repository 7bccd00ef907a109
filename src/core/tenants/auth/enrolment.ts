/**
 * Enrolment and renewal. A device presents the enrolment key of a fleet and gets an identity with a device token. Later it
 * presents the token and gets a new one for the same identity. The service stores nothing for the device, because the token
 * proves the identity; it stores only the number of uses of the key. REVOKED lists the devices that are refused.
 *
 * An enrolment key is `bek_<fleet id without prefix>_<secret>`. It contains the fleet's id, so no list is searched.
 */
import { createHash, timingSafeEqual } from 'node:crypto'
import { CodedError } from '../../../../protocol/errors.js'
import { DeviceTokenVerifier, mintDeviceToken } from '../../../device-token.js'
import type { Keyring } from '../../../keyring.js'
import { type EnrolmentKey, enrolmentKeysOf, type FleetRecord } from '../../../store/tenants.js'
import { randomId, randomSecret } from '../ids.js'

const ENROLMENT_KEY = /^bek_([a-z0-9]{12})_([A-Za-z0-9_-]{43})$/
/** The secret is random and this long, so its hash need not be slow. */
const SECRET_BYTES = 32
/** A device renews at a random time in this last share of the life of its token. */
const RENEW_SHARE = 0.25
/** `iat` of a renewed token is greater by at least this much, even if the clocks of cores differ. `iat` is in seconds. */
const ISSUE_INTERVAL_MS = 1_000

export function newEnrolmentKey(fleet: string): { enrolmentKey: string; hash: string } {
  const enrolmentKey = `bek_${fleet.replace(/^fleet_/, '')}_${randomSecret(SECRET_BYTES)}`
  return { enrolmentKey, hash: hashOf(enrolmentKey).toString('hex') }
}

/** The result of an enrolment or a renewal. */
export interface Enrolled {
  deviceId: string
  token: string
  expiresAtMs: number
  /** The device renews its token at a random time between this one and `expiresAtMs`. */
  renewFromMs: number
}

export interface TokenContext {
  keyring: Keyring
  issuer: string
  lifetimeMs: number
  nowMs: number
}

export interface EnrolmentContext extends TokenContext {
  fleet(id: string): Promise<FleetRecord | null>
  /** Counts a use of the key durably. Rejects with CodedError `bad_enrolment_key` if no use is left. */
  use(fleet: string, key: string): Promise<void>
  /** Limits the rate of a valid key. Throws CodedError `rate_limited`. */
  limit(key: string): void
}

/** Rejects with CodedError `bad_enrolment_key`, or with BrokerError. */
export async function enrol(context: EnrolmentContext, enrolmentKey: string): Promise<Enrolled> {
  const match = ENROLMENT_KEY.exec(enrolmentKey)
  const fleet = match ? await context.fleet(`fleet_${match[1]}`) : null
  const hash = hashOf(enrolmentKey)
  const key = fleet && enrolmentKeysOf(fleet).find((one) => timingSafeEqual(Buffer.from(one.hash, 'hex'), hash))
  if (!fleet || !key) throw new CodedError('bad_enrolment_key')
  requireUsable(key, context.nowMs)
  context.limit(key.id)
  await context.use(fleet.id, key.id)
  return mint(context, randomId('dev_', 20), fleet.id, context.nowMs)
}

/** Throws CodedError `bad_enrolment_key` if the key is retired, has ended or is used up. */
export function requireUsable({ retiredAtMs, untilMs, uses, usesMax }: EnrolmentKey, nowMs: number): void {
  if (retiredAtMs !== null) throw new CodedError('bad_enrolment_key', 'the enrolment key was retired')
  if (untilMs !== null && untilMs <= nowMs) throw new CodedError('bad_enrolment_key', 'the enrolment key has ended')
  if (usesMax !== null && uses >= usesMax) throw new CodedError('bad_enrolment_key', 'the enrolment key is used up')
}

export interface RenewalContext extends TokenContext {
  /** Time after its end for which a token can be renewed. */
  graceMs: number
  isDeviceRevoked(device: string): boolean
  isCutOff(fleet: string, issuedAtMs: number): boolean
}

/**
 * Issues a new token for the device. The older token stays valid until its end. Throws CodedError `bad_token`,
 * `token_expired` (the grace is over) or `forbidden` (the device was revoked).
 */
export function renew(context: RenewalContext, token: string): Enrolled {
  const { keyring, issuer, nowMs, graceMs } = context
  const verdict = new DeviceTokenVerifier(keyring.publicKeys('deviceToken'), issuer).verify(token, nowMs, graceMs)
  if (!verdict.ok) throw new CodedError(verdict.reason)
  const { device, fleet, issuedAtMs } = verdict.claims
  if (context.isDeviceRevoked(device)) throw new CodedError('forbidden', 'the device was revoked')
  if (context.isCutOff(fleet, issuedAtMs))
    throw new CodedError('bad_token', 'the fleet was cut off after the token was issued')
  return mint(context, device, fleet, Math.max(nowMs, issuedAtMs + ISSUE_INTERVAL_MS))
}

function mint({ keyring, issuer, lifetimeMs }: TokenContext, device: string, fleet: string, nowMs: number): Enrolled {
  const request = { issuer, device, fleet, nowMs, lifetimeMs }
  const { token, expiresAtMs } = mintDeviceToken(keyring.signingKey('deviceToken'), request)
  return { deviceId: device, token, expiresAtMs, renewFromMs: expiresAtMs - Math.floor(RENEW_SHARE * lifetimeMs) }
}

function hashOf(enrolmentKey: string): Buffer {
  return createHash('sha256').update(enrolmentKey).digest()
}
