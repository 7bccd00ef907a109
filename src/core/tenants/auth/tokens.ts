/**
 * Access tokens and user tokens, both JWTs. An app server authenticates with an access token, which each core verifies
 * offline. In a user token, a project's service account asserts the user of a device. The key determines the algorithm, not
 * the header of the token.
 */
import { decodeProtectedHeader, errors, importJWK, type JWTPayload, jwtVerify, SignJWT } from 'jose'
import { CodedError } from '../../../../protocol/errors.js'
import { evictOldest, setNewest } from '../../../collections.js'
import type { Keyring } from '../../../keyring.js'
import { type ProjectRecord, USER_CHARACTERS_MAX } from '../../../store/tenants.js'

/** RFC 9068. */
export const ACCESS_TOKEN_TYP = 'at+jwt'
export const USER_TOKEN_TYP = 'borealis-user+jwt'

/** The permissions of an access token, with the names of ANS. */
export const Scope = {
  /** Send, read and cancel messages. */
  MESSAGE_UPDATE: 'message:update',
  /** Read the project, its registrations and its counters. */
  PROJECT_READ: 'project:read',
} as const
export type ScopeName = (typeof Scope)[keyof typeof Scope]

/** Clients of ANS also request these scopes. They are granted and have no effect: there are no ID and refresh tokens. */
const SCOPES_OF_ANS = ['openid', 'offline'] as const

/** All scopes that a client may request, as in a settings file. */
export const SCOPES_OF_SETTINGS = [...SCOPES_OF_ANS, ...Object.values(Scope)].join(' ')

/** Tolerated difference between the clocks of two servers. */
export const SKEW_SECONDS = 60

/** The app server that an access token authenticates. */
export interface Caller {
  project: string
  clientId: string
  scopes: ReadonlySet<string>
  /** The key of the service account that signed the client assertion; empty: an operator minted the token. */
  keyId: string
  expiresAtMs: number
}

export interface AccessTokenRequest {
  issuer: string
  /** Several values are separated by spaces. */
  audience: string
  project: string
  clientId: string
  keyId?: string
  scopes: readonly string[]
  tokenId: string
  nowMs: number
  lifetimeSeconds: number
}

export async function mintAccessToken(
  keyring: Keyring,
  request: AccessTokenRequest,
): Promise<{ token: string; expiresAtMs: number }> {
  const key = keyring.signingKey('accessToken')
  const issuedAt = Math.floor(request.nowMs / 1000)
  const expiresAt = issuedAt + request.lifetimeSeconds
  const token = await new SignJWT({
    client_id: request.clientId,
    project: request.project,
    scope: request.scopes.join(' '),
    ...(request.keyId === undefined ? {} : { key_id: request.keyId }),
  })
    .setProtectedHeader({ alg: 'ES256', typ: ACCESS_TOKEN_TYP, kid: key.kid })
    .setIssuer(request.issuer)
    .setAudience(audienceClaim(request.audience))
    .setSubject(request.clientId)
    .setJti(request.tokenId)
    .setIssuedAt(issuedAt)
    .setExpirationTime(expiresAt)
    .sign(await importJWK(key.privateJwk, 'ES256'))
  return { token, expiresAtMs: expiresAt * 1000 }
}

/** RFC 7519: the claim is a string for one audience, and a list for several. */
function audienceClaim(text: string): string | string[] {
  const audiences = words(text)
  return audiences.length > 1 ? audiences : text
}

/** Splits a list of OAuth, whose values are separated by spaces. */
export function words(text: string): string[] {
  return text.split(' ').filter(Boolean)
}

export interface VerifierOptions {
  /** Accepted values of `iss`. */
  issuer: string | string[]
  /** Accepted values of `aud`, separated by spaces. */
  audience: string
  verifiedTokensMax: number
}

/** Verifies access tokens offline. It caches a bounded number of valid tokens, to check each signature only once. */
export class AccessTokenVerifier {
  /** Least recently used first. */
  private readonly known = new Map<string, { caller: Caller; kid: string }>()
  /** By kid. */
  private readonly keys = new Map<string, ReturnType<typeof importJWK>>()

  /** Uses the current keys of the keyring, so that added and removed keys take effect at once. */
  constructor(
    private readonly keyring: Keyring,
    private readonly options: VerifierOptions,
  ) {}

  /** Throws CodedError `bad_token` or `token_expired`. */
  async verify(token: string, nowMs: number): Promise<Caller> {
    const known = this.known.get(token)
    if (known && this.keyring.has('accessToken', known.kid)) {
      if (known.caller.expiresAtMs + SKEW_SECONDS * 1000 <= nowMs) {
        this.known.delete(token)
        throw new CodedError('token_expired')
      }
      setNewest(this.known, token, known)
      return known.caller
    }
    this.known.delete(token)
    const kid = keyIdOf(token)
    const caller = await this.check(token, kid, nowMs)
    this.known.set(token, { caller, kid })
    evictOldest(this.known, this.options.verifiedTokensMax)
    return caller
  }

  /** Null: the keyring has no such key. */
  private async keyOf(kid: string): Promise<Awaited<ReturnType<typeof importJWK>> | null> {
    const found = this.keyring.publicKeys('accessToken').find((key) => key.kid === kid)
    if (!found) {
      this.keys.delete(kid)
      return null
    }
    const key = this.keys.get(kid) ?? importJWK(found.publicJwk, 'ES256')
    this.keys.set(kid, key)
    return key
  }

  private async check(token: string, kid: string, nowMs: number): Promise<Caller> {
    const key = await this.keyOf(kid)
    if (!key) throw new CodedError('bad_token')
    let claims: JWTPayload
    try {
      const verified = await jwtVerify(token, key, {
        algorithms: ['ES256'],
        typ: ACCESS_TOKEN_TYP,
        issuer: this.options.issuer,
        audience: words(this.options.audience),
        currentDate: new Date(nowMs),
        clockTolerance: SKEW_SECONDS,
        requiredClaims: ['exp', 'client_id', 'project', 'scope'],
      })
      claims = verified.payload
    } catch (error) {
      throw new CodedError(error instanceof errors.JWTExpired ? 'token_expired' : 'bad_token')
    }
    const { client_id: clientId, project, scope, exp, key_id: keyId = '' } = claims
    if (typeof clientId !== 'string' || typeof project !== 'string' || typeof scope !== 'string' || !exp) {
      throw new CodedError('bad_token')
    }
    if (typeof keyId !== 'string') throw new CodedError('bad_token')
    return { clientId, project, keyId, scopes: new Set(scope.split(' ')), expiresAtMs: exp * 1000 }
  }
}

/** The claims that a user token must match. */
export interface UserTokenContext {
  project: ProjectRecord
  application: string
  device: string
  nowMs: number
}

/**
 * Returns the user (`sub`) that the project's service account asserts for this application on this device. Throws CodedError
 * `bad_user_token`.
 */
export async function verifyUserToken(token: string, context: UserTokenContext): Promise<string> {
  const { project, application, device, nowMs } = context
  // The kid is not trusted: it only selects among the keys of this project.
  const kid = keyIdOf(token)
  const key = project.serviceAccount.keys.find((k) => k.kid === kid)
  if (!key) throw new CodedError('bad_user_token')
  let claims: JWTPayload
  try {
    const verified = await jwtVerify(token, await importJWK(key.publicJwk, key.alg), {
      algorithms: [key.alg],
      typ: USER_TOKEN_TYP,
      audience: application,
      currentDate: new Date(nowMs),
      clockTolerance: SKEW_SECONDS,
      requiredClaims: ['exp', 'sub', 'device'],
    })
    claims = verified.payload
  } catch {
    throw new CodedError('bad_user_token')
  }
  const { sub: user, device: claimedDevice } = claims
  if (claimedDevice !== device) throw new CodedError('bad_user_token')
  if (typeof user !== 'string' || user === '' || user.length > USER_CHARACTERS_MAX) {
    throw new CodedError('bad_user_token')
  }
  return user
}

/** Empty: the token is not a JWT, or has no kid. */
function keyIdOf(token: string): string {
  try {
    return decodeProtectedHeader(token).kid ?? ''
  } catch {
    return ''
  }
}
