/**
 * Access tokens of app servers: JWTs that every gateway checks offline. And user tokens: a project's service account
 * asserts who uses a device. Both with jose; the algorithm is always the one of the key, never the token's choice.
 */
import { decodeProtectedHeader, errors, importJWK, type JWTPayload, jwtVerify, SignJWT } from 'jose'
import { CodedError } from '../../../../protocol/errors.js'
import { evictOldest, setNewest } from '../../../collections.js'
import type { Keyring } from '../../../keyring.js'
import { type ProjectRecord, USER_CHARACTERS_MAX } from '../../../store/tenants.js'

/** RFC 9068. */
export const ACCESS_TOKEN_TYP = 'at+jwt'
export const USER_TOKEN_TYP = 'borealis-user+jwt'

/** What a token lets its bearer do, as ANS names it. */
export const Scope = {
  /** Send, look at and cancel messages. */
  MESSAGE_UPDATE: 'message:update',
  /** Look at the project, its registrations and its counters. */
  PROJECT_READ: 'project:read',
} as const
export type ScopeName = (typeof Scope)[keyof typeof Scope]

/** Clients of ANS ask for these too; they are granted, and mean nothing here: there is no identity and no refresh token. */
const SCOPES_OF_ANS = ['openid', 'offline'] as const

/** Every scope that may be asked for, as settings files list them. */
export const SCOPES_OF_SETTINGS = [...SCOPES_OF_ANS, ...Object.values(Scope)].join(' ')

/** Clocks of servers may differ by so much. */
export const SKEW_SECONDS = 60

/** Whom an access token speaks for. */
export interface Caller {
  project: string
  clientId: string
  scopes: ReadonlySet<string>
  /** The key of the service account with which it was asked for; empty: none, it was minted by an operator. */
  keyId: string
  expiresAtMs: number
}

export interface AccessTokenRequest {
  issuer: string
  /** Several are separated by spaces. */
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

/** One as a string, as most have it; several as a list. */
function audienceClaim(text: string): string | string[] {
  const audiences = words(text)
  return audiences.length > 1 ? audiences : text
}

/** Values separated by spaces, as OAuth has them. */
export function words(text: string): string[] {
  return text.split(' ').filter(Boolean)
}

export interface VerifierOptions {
  /** Any of them. */
  issuer: string | string[]
  /** Any of them, separated by spaces. */
  audience: string
  verifiedTokensMax: number
}

/** Checks access tokens offline. Remembers a bounded number that were good, so that a sender's token is verified once. */
export class AccessTokenVerifier {
  /** In order of use; the first is the one to forget. */
  private readonly known = new Map<string, { caller: Caller; kid: string }>()
  /** By kid. */
  private readonly keys = new Map<string, ReturnType<typeof importJWK>>()

  /** Follows the keyring: a key that it gets verifies from then on, and a key that it loses does not. */
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

  /** Null where the keyring has no such key. */
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

/** What a user token has to be about. */
export interface UserTokenContext {
  project: ProjectRecord
  application: string
  device: string
  nowMs: number
}

/**
 * The user that the project's service account asserts for this application on this device (`sub`). Throws CodedError
 * `bad_user_token`, whatever is wrong with the token.
 */
export async function verifyUserToken(token: string, context: UserTokenContext): Promise<string> {
  const { project, application, device, nowMs } = context
  // A kid only chooses among the keys of this one project.
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

/** Empty where the token is none. */
function keyIdOf(token: string): string {
  try {
    return decodeProtectedHeader(token).kid ?? ''
  } catch {
    return ''
  }
}
