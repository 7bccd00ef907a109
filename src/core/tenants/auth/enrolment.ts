/**
 * Enrolment: a device shows the enrolment key of a fleet and gets an identity and a device token. Nothing is stored for
 * it: the token is its own proof, and a device that is to be kept out is put on the list of revoked ones.
 *
 * An enrolment key is `bek_<fleet id without prefix>_<secret>`: it names its fleet, so that no list has to be searched.
 */
import { createHash, timingSafeEqual } from 'node:crypto'
import { CodedError } from '../../../../protocol/errors.js'
import { mintDeviceToken } from '../../../device-token.js'
import type { Keyring } from '../../../keyring.js'
import type { FleetRecord } from '../../../store/tenants.js'
import { randomId, randomSecret } from '../ids.js'

const ENROLMENT_KEY = /^bek_([a-z0-9]{12})_([A-Za-z0-9_-]{43})$/
/** 32 bytes as base64url: no need of a slow hash, it cannot be guessed. */
const SECRET_BYTES = 32

export function newEnrolmentKey(fleet: string): { enrolmentKey: string; hash: string } {
  const enrolmentKey = `bek_${fleet.replace(/^fleet_/, '')}_${randomSecret(SECRET_BYTES)}`
  return { enrolmentKey, hash: hashOf(enrolmentKey).toString('hex') }
}

export interface Enrolled {
  deviceId: string
  token: string
  expiresAtMs: number
}

export interface EnrolmentContext {
  keyring: Keyring
  issuer: string
  lifetimeMs: number
  nowMs: number
  fleet(id: string): Promise<FleetRecord | null>
}

/** Throws CodedError `bad_enrolment_key`; rejects with BrokerError where the fleet cannot be looked up. */
export async function enrol(context: EnrolmentContext, enrolmentKey: string): Promise<Enrolled> {
  const match = ENROLMENT_KEY.exec(enrolmentKey)
  const fleet = match ? await context.fleet(`fleet_${match[1]}`) : null
  const hash = hashOf(enrolmentKey)
  if (!fleet?.keyHashes.some((good) => timingSafeEqual(Buffer.from(good, 'hex'), hash))) {
    throw new CodedError('bad_enrolment_key')
  }
  const deviceId = randomId('dev_', 20)
  const { token, expiresAtMs } = mintDeviceToken(context.keyring.signingKey('deviceToken'), {
    issuer: context.issuer,
    device: deviceId,
    fleet: fleet.id,
    nowMs: context.nowMs,
    lifetimeMs: context.lifetimeMs,
  })
  return { deviceId, token, expiresAtMs }
}

function hashOf(enrolmentKey: string): Buffer {
  return createHash('sha256').update(enrolmentKey).digest()
}
