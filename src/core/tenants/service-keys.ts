/** Keys of service accounts, and what their owners sign with them. The server keeps the public part only. */
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { importPKCS8, SignJWT } from 'jose'
import type { ServiceKey } from '../../store/tenants.js'
import { USER_TOKEN_TYP } from './tokens.js'

/** What the owner of a project gets, once. */
export interface PrivateServiceKey {
  keyId: string
  alg: ServiceKey['alg']
  /** PKCS #8, PEM. */
  privateKey: string
}

export function generateServiceKey(
  alg: ServiceKey['alg'],
  nowMs: number,
): { stored: ServiceKey; private: PrivateServiceKey } {
  const { publicKey, privateKey } =
    alg === 'ES256'
      ? generateKeyPairSync('ec', { namedCurve: 'P-256' })
      : generateKeyPairSync('rsa', { modulusLength: 2048 })
  const kid = randomBytes(8).toString('hex')
  return {
    stored: { kid, alg, publicJwk: publicKey.export({ format: 'jwk' }), createdAtMs: nowMs },
    private: { keyId: kid, alg, privateKey: privateKey.export({ format: 'pem', type: 'pkcs8' }) as string },
  }
}

export interface UserTokenRequest {
  user: string
  application: string
  device: string
  nowMs: number
  lifetimeSeconds: number
}

/** What an app server does to tell who uses a device: for samples, tests and the CLI. */
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
