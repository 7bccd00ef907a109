/** Keys of service accounts. The service stores only the public key; the owner signs client assertions and user tokens. */
import { createPublicKey, generateKeyPair, type KeyObject, randomBytes } from 'node:crypto'
import { promisify } from 'node:util'
import { importPKCS8, SignJWT } from 'jose'
import { CodedError } from '../../../../protocol/errors.js'
import type { ServiceKey } from '../../../store/tenants.js'
import { USER_TOKEN_TYP } from './tokens.js'

/** The private key that the owner of a project gets once. */
export interface PrivateServiceKey {
  keyId: string
  alg: ServiceKey['alg']
  /** PKCS #8, PEM. */
  privateKey: string
}

const generatePair = promisify(generateKeyPair)

/** Off the event loop: the search for the primes of an RSA key takes up to seconds, and the same process routes. */
export async function generateServiceKey(
  alg: ServiceKey['alg'],
  nowMs: number,
): Promise<{ stored: ServiceKey; private: PrivateServiceKey }> {
  const { publicKey, privateKey } = await (alg === 'ES256'
    ? generatePair('ec', { namedCurve: 'P-256' })
    : generatePair('rsa', { modulusLength: 2048 }))
  const kid = newKeyId()
  return {
    stored: { kid, alg, publicJwk: publicKey.export({ format: 'jwk' }), createdAtMs: nowMs },
    private: { keyId: kid, alg, privateKey: privateKey.export({ format: 'pem', type: 'pkcs8' }) as string },
  }
}

/**
 * Reads the public key of a pair that its owner generated, for example in a vault or on a smart card.
 * @param pem SPKI (`BEGIN PUBLIC KEY`): RSA of 2,048 to 4,096 bits, or P-256.
 * Throws CodedError `invalid_request`.
 */
export function readServiceKey(pem: string, nowMs: number): ServiceKey {
  const key = readPublicKey(pem)
  const alg = algorithmOf(key)
  if (alg === null) throw refused('must be an RSA key of 2048 to 4096 bits, or an EC key on P-256')
  return { kid: newKeyId(), alg, publicJwk: key.export({ format: 'jwk' }), createdAtMs: nowMs }
}

function readPublicKey(pem: string): KeyObject {
  // createPublicKey() accepts a private key, too. But a private key that was sent here is no longer secret.
  if (pem.includes('PRIVATE KEY')) throw refused('is a private key: it must not leave you; make another pair')
  if (!pem.trimStart().startsWith('-----BEGIN PUBLIC KEY-----'))
    throw refused('must be PEM that begins with PUBLIC KEY')
  try {
    return createPublicKey(pem)
  } catch (cause) {
    throw refused('cannot be read as PEM', cause)
  }
}

function algorithmOf(key: KeyObject): ServiceKey['alg'] | null {
  const { modulusLength = 0, namedCurve } = key.asymmetricKeyDetails ?? {}
  if (key.asymmetricKeyType === 'rsa' && modulusLength >= 2_048 && modulusLength <= 4_096) return 'RS256'
  return key.asymmetricKeyType === 'ec' && namedCurve === 'prime256v1' ? 'ES256' : null
}

const refused = (reason: string, cause?: unknown) =>
  new CodedError('invalid_request', `publicKey ${reason}`, { field: 'publicKey' }, { cause })

const newKeyId = () => randomBytes(8).toString('hex')

export interface UserTokenRequest {
  user: string
  application: string
  device: string
  nowMs: number
  lifetimeSeconds: number
}

/** Signs a user token as an app server does; for the sample, the tests and the CLI. */
export async function mintUserToken(key: PrivateServiceKey, request: UserTokenRequest): Promise<string> {
  const issuedAt = Math.floor(request.nowMs / 1000)
  return new SignJWT({ device: request.device })
    .setProtectedHeader({ alg: key.alg, typ: USER_TOKEN_TYP, kid: key.keyId })
    .setSubject(request.user)
    .setAudience(request.application)
    .setIssuedAt(issuedAt)
    .setExpirationTime(issuedAt + request.lifetimeSeconds)
    .sign(await importPKCS8(key.privateKey, key.alg))
}
