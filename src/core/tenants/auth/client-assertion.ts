/**
 * Client assertions (RFC 7523). An app server proves that it has a private key of its project's service account with a JWT
 * that is valid for some minutes and only once.
 *
 * The order of the checks keeps attackers cheap. A malformed assertion or an unknown client costs no signature check, and
 * only an owner of the key can add entries to the list of used assertions.
 */
import { decodeJwt, decodeProtectedHeader, errors, importJWK, type JWTPayload, jwtVerify } from 'jose'
import { OAuthError } from '../../../../protocol/oauth-errors.js'
import type { ProjectRecord, ServiceKey } from '../../../store/tenants.js'
import { SKEW_SECONDS } from './tokens.js'

export interface AssertionContext {
  /** The project of a service account; null: the client is unknown. */
  projectOf(clientId: string): Promise<ProjectRecord | null>
  /** Accepted values of `aud`: the token endpoint, the issuer, and the audience of access tokens. */
  audiences: readonly string[]
  lifetimeSecondsMax: number
  nowMs: number
  /** Stores that the assertion was used. Resolves with false if it was used before. */
  markUsed(clientId: string, jti: string): Promise<boolean>
}

const ASSERTION_CHARACTERS_MAX = 8_192
const JTI_CHARACTERS_MAX = 256
const TYPES: readonly unknown[] = [undefined, 'JWT', 'jwt', 'client-authentication+jwt']

/** Rejects with OAuthError `invalid_client`, or with BrokerError. */
export async function verifyAssertion(
  assertion: string,
  context: AssertionContext,
): Promise<{ project: ProjectRecord; keyId: string }> {
  const { clientId, kid, alg } = readUnverified(assertion)
  const project = await context.projectOf(clientId)
  if (!project) throw refused('the client is unknown')
  const key = project.serviceAccount.keys.find((one) => one.kid === kid)
  if (!key) throw refused('the client has no key of this kid')
  if (alg !== key.alg) throw refused(`this key signs with ${key.alg}`)
  const claims = await verify(assertion, key, clientId, context)
  checkTimes(claims, context)
  const { jti } = claims
  if (typeof jti !== 'string' || jti === '' || jti.length > JTI_CHARACTERS_MAX) {
    throw refused(`jti must be a string of 1 to ${JTI_CHARACTERS_MAX} characters`)
  }
  if (!(await context.markUsed(clientId, jti))) throw refused('the assertion was used before')
  return { project, keyId: key.kid }
}

function readUnverified(assertion: string): { clientId: string; kid: string; alg: unknown } {
  if (assertion.length > ASSERTION_CHARACTERS_MAX) throw refused('the assertion is too long')
  try {
    const { kid, alg, typ } = decodeProtectedHeader(assertion)
    const { iss, sub } = decodeJwt(assertion)
    if (!TYPES.includes(typ)) throw refused('typ is of another kind of token')
    if (typeof kid !== 'string') throw refused('kid is missing')
    if (typeof iss !== 'string' || iss !== sub) throw refused('iss and sub must both be the client id')
    return { clientId: iss, kid, alg }
  } catch (error) {
    throw error instanceof OAuthError ? error : refused('the assertion is not a JWT')
  }
}

async function verify(
  assertion: string,
  key: ServiceKey,
  clientId: string,
  { audiences, nowMs }: AssertionContext,
): Promise<JWTPayload> {
  try {
    const { payload } = await jwtVerify(assertion, await importJWK(key.publicJwk, key.alg), {
      algorithms: [key.alg],
      issuer: clientId,
      subject: clientId,
      audience: [...audiences],
      currentDate: new Date(nowMs),
      clockTolerance: SKEW_SECONDS,
      requiredClaims: ['exp', 'jti'],
    })
    return payload
  } catch (error) {
    if (error instanceof errors.JWTExpired) throw refused('the assertion has expired')
    if (error instanceof errors.JWTClaimValidationFailed) throw refused(`the claim ${error.claim} is missing or wrong`)
    throw refused('the signature is wrong')
  }
}

/** The client chooses `exp`, so it must be within the limit both from now and from `iat`. */
function checkTimes({ exp = 0, iat }: JWTPayload, { nowMs, lifetimeSecondsMax }: AssertionContext): void {
  const now = Math.floor(nowMs / 1000)
  if (iat !== undefined && iat > now + SKEW_SECONDS) throw refused('iat is in the future')
  if (exp > now + lifetimeSecondsMax + SKEW_SECONDS || (iat !== undefined && exp - iat > lifetimeSecondsMax)) {
    throw refused(`exp must be at most ${lifetimeSecondsMax} seconds after iat`)
  }
}

function refused(description: string): OAuthError {
  return new OAuthError('invalid_client', description)
}
