/**
 * Enrolment and renewal: a device shows the enrolment key of a fleet and gets an identity and a device token; later it shows
 * the token and gets another one for the same identity. Nothing is stored for a device: the token is its own proof, and a
 * device that is to be kept out is put on the list of revoked ones. What is stored is the number of uses of the key.
 *
 * An enrolment key is `bek_<fleet id without prefix>_<secret>`: it names its fleet, so that no list has to be searched.
 */
import { createHash, timingSafeEqual } from 'node:crypto'
import { CodedError } from '../../../../protocol/errors.js'
import { DeviceTokenVerifier, mintDeviceToken } from '../../../device-token.js'
import type { Keyring } from '../../../keyring.js'
import { type EnrolmentKey, enrolmentKeysOf, type FleetRecord } from '../../../store/tenants.js'
import { randomId, randomSecret } from '../ids.js'

const ENROLMENT_KEY = /^bek_([a-z0-9]{12})_([A-Za-z0-9_-]{43})$/
/** 32 bytes as base64url: no need of a slow hash, it cannot be guessed. */
const SECRET_BYTES = 32
/** A device renews at a random time in this last part of the life of its token. */
const RENEW_SHARE = 0.25
/** A renewed token is issued this much later at least, whatever the clocks of cores say: `iat` counts seconds. */
const LATER_MS = 1_000

export function newEnrolmentKey(fleet: string): { enrolmentKey: string; hash: string } {
  const enrolmentKey = `bek_${fleet.replace(/^fleet_/, '')}_${randomSecret(SECRET_BYTES)}`
  return { enrolmentKey, hash: hashOf(enrolmentKey).toString('hex') }
}

/** What a device gets. */
export interface Enrolled {
  deviceId: string
  token: string
  expiresAtMs: number
  /** From when on the device renews. */
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
  /** Counts a use of the key, durably. Throws CodedError `bad_enrolment_key` where none is left. */
  use(fleet: string, key: string): Promise<void>
  /** The key is a true one: limits its rate. Throws CodedError `rate_limited`. */
  limit(key: string): void
}

/** Throws CodedError `bad_enrolment_key`; rejects with BrokerError where the fleet cannot be looked up or counted. */
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

/** Throws CodedError `bad_enrolment_key` where the key may not be used any more. */
export function requireUsable({ retiredAtMs, untilMs, uses, usesMax }: EnrolmentKey, nowMs: number): void {
  if (retiredAtMs !== null) throw new CodedError('bad_enrolment_key', 'the enrolment key was retired')
  if (untilMs !== null && untilMs <= nowMs)
    throw new CodedError('bad_enrolment_key', 'the time of the enrolment key is over')
  if (usesMax !== null && uses >= usesMax) throw new CodedError('bad_enrolment_key', 'the enrolment key is used up')
}

export interface RenewalContext extends TokenContext {
  /** How long after its end a token can be renewed. */
  graceMs: number
  isDeviceRevoked(device: string): boolean
  isCutOff(fleet: string, issuedAtMs: number): boolean
}

/**
 * Another token for the device of this one, which stays good until its end. Throws CodedError `bad_token`, `token_expired`
 * (its grace is over) or `forbidden` (the device was revoked).
 */
export function renew(context: RenewalContext, token: string): Enrolled {
  const { keyring, issuer, nowMs, graceMs } = context
  const verdict = new DeviceTokenVerifier(keyring.publicKeys('deviceToken'), issuer).verify(token, nowMs, graceMs)
  if (!verdict.ok) throw new CodedError(verdict.reason)
  const { device, fleet, issuedAtMs } = verdict.claims
  if (context.isDeviceRevoked(device)) throw new CodedError('forbidden', 'the device was revoked')
  if (context.isCutOff(fleet, issuedAtMs))
    throw new CodedError('bad_token', 'the fleet was cut off after the token was issued')
  return mint(context, device, fleet, Math.max(nowMs, issuedAtMs + LATER_MS))
}

function mint({ keyring, issuer, lifetimeMs }: TokenContext, device: string, fleet: string, nowMs: number): Enrolled {
  const request = { issuer, device, fleet, nowMs, lifetimeMs }
  const { token, expiresAtMs } = mintDeviceToken(keyring.signingKey('deviceToken'), request)
  return { deviceId: device, token, expiresAtMs, renewFromMs: expiresAtMs - Math.floor(RENEW_SHARE * lifetimeMs) }
}

function hashOf(enrolmentKey: string): Buffer {
  return createHash('sha256').update(enrolmentKey).digest()
}
