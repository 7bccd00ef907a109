/**
 * The device token, which a device gets at enrolment and sends in HELLO. It is a JWT (ES256) with its own `typ` and `aud`, so
 * that no other token of the service is accepted in its place. Core signs it, and workers verify it offline.
 *
 * This is our own code because jose, which serves the other tokens, verifies only asynchronously. A worker verifies within
 * the turn in which HELLO arrives, so no frame of the connection can come in between.
 *
 * Claims: `iss`, `aud`, `sub` = deviceId, `fleet`, `iat`, `exp`. A renewed token has a greater `iat` than its predecessor,
 * because the session table orders the tokens of a device by `iat`.
 */
import { createPrivateKey, createPublicKey, type KeyObject, sign, verify } from 'node:crypto'
import type { StoredSigningKey, TransportKeys } from './keyring.js'

export const DEVICE_TOKEN_TYP = 'borealis-device+jwt'
export const DEVICE_TOKEN_AUDIENCE = 'borealis-device'

/** Longest device token accepted, in characters. */
export const DEVICE_TOKEN_CHARS_MAX = 2048

/** Tolerated difference between the clocks of two servers. */
export const TOKEN_SKEW_MS = 60_000

export const DEVICE_ID = /^dev_[a-z0-9]{20}$/

export interface DeviceClaims {
  device: string
  fleet: string
  issuedAtMs: number
  expiresAtMs: number
}

export interface DeviceTokenRequest {
  issuer: string
  device: string
  fleet: string
  nowMs: number
  lifetimeMs: number
}

export function mintDeviceToken(
  key: StoredSigningKey,
  request: DeviceTokenRequest,
): { token: string; expiresAtMs: number } {
  const iat = Math.floor(request.nowMs / 1000)
  const exp = iat + Math.floor(request.lifetimeMs / 1000)
  const header = { alg: 'ES256', typ: DEVICE_TOKEN_TYP, kid: key.kid }
  const claims = {
    iss: request.issuer,
    aud: DEVICE_TOKEN_AUDIENCE,
    sub: request.device,
    fleet: request.fleet,
    iat,
    exp,
  }
  const signed = `${encodePart(header)}.${encodePart(claims)}`
  const privateKey = createPrivateKey({ key: key.privateJwk, format: 'jwk' })
  const signature = sign('sha256', Buffer.from(signed), { key: privateKey, dsaEncoding: 'ieee-p1363' })
  return { token: `${signed}.${signature.toString('base64url')}`, expiresAtMs: exp * 1000 }
}

export type DeviceTokenVerdict =
  | { ok: true; claims: DeviceClaims }
  | { ok: false; reason: 'bad_token' | 'token_expired' }

/** Verifies device tokens. Each costs a signature check, which tickets avoid at reconnects. */
export class DeviceTokenVerifier {
  private readonly keys: Map<string, KeyObject>

  constructor(
    keys: TransportKeys['deviceTokens'],
    private readonly issuer: string,
  ) {
    this.keys = new Map(keys.map(({ kid, publicJwk }) => [kid, createPublicKey({ key: publicJwk, format: 'jwk' })]))
  }

  /** Never throws. @param graceMs time after its end for which a token is still accepted; only renewal has one. */
  verify(token: string, nowMs: number, graceMs = 0): DeviceTokenVerdict {
    const parts = token.length <= DEVICE_TOKEN_CHARS_MAX ? token.split('.') : []
    const [headerPart, claimsPart, signaturePart] = parts
    if (parts.length !== 3 || !headerPart || !claimsPart || !signaturePart) return BAD
    const header = decodePart(headerPart)
    // The header is not trusted: the algorithm is fixed, and `kid` only selects among our own keys.
    if (header?.alg !== 'ES256' || header.typ !== DEVICE_TOKEN_TYP || typeof header.kid !== 'string') return BAD
    const key = this.keys.get(header.kid)
    if (!key) return BAD
    const signed = Buffer.from(`${headerPart}.${claimsPart}`)
    const signature = Buffer.from(signaturePart, 'base64url')
    if (!verify('sha256', signed, { key, dsaEncoding: 'ieee-p1363' }, signature)) return BAD
    return this.checkClaims(decodePart(claimsPart), nowMs - graceMs)
  }

  private checkClaims(claims: Record<string, unknown> | null, nowMs: number): DeviceTokenVerdict {
    if (claims?.iss !== this.issuer || claims.aud !== DEVICE_TOKEN_AUDIENCE) return BAD
    const { sub, fleet, iat, exp } = claims
    if (typeof sub !== 'string' || !DEVICE_ID.test(sub) || typeof exp !== 'number') return BAD
    const times = { issuedAtMs: typeof iat === 'number' ? iat * 1000 : 0, expiresAtMs: exp * 1000 }
    if (times.expiresAtMs + TOKEN_SKEW_MS <= nowMs) return { ok: false, reason: 'token_expired' }
    return { ok: true, claims: { device: sub, fleet: typeof fleet === 'string' ? fleet : '', ...times } }
  }
}

const BAD: DeviceTokenVerdict = { ok: false, reason: 'bad_token' }

function encodePart(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url')
}

function decodePart(part: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(Buffer.from(part, 'base64url').toString('utf8'))
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : null
  } catch {
    return null
  }
}
