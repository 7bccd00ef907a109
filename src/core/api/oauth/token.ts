/**
 * POST /auth/public/oauth2/token: exchanges the client assertion of a project's service account for an access token
 * (client_credentials with private_key_jwt; RFC 6749, 7521, 7523). Stock OAuth clients can use it, and clients of ANS.
 */
import Type from 'typebox'
import { OAuthError } from '../../../../protocol/oauth-errors.js'
import { UsedAssertions } from '../../../store/assertions.js'
import type { ProjectRecord } from '../../../store/tenants.js'
import { verifyAssertion } from '../../tenants/auth/client-assertion.js'
import type { AuthSettings } from '../../tenants/auth/settings.js'
import { mintAccessToken, SCOPES_OF_SETTINGS, Scope, words } from '../../tenants/auth/tokens.js'
import { randomId } from '../../tenants/ids.js'
import { AUTH_PATH, TOKEN_PATH } from '../../tenants/settings-file.js'
import type { ApiContext, ApiRoute, Call } from '../public/context.js'
import { networkOf } from '../rate-limits.js'
import { TokenBuckets } from '../token-buckets.js'
import { answerOAuthError } from './error-answers.js'
import { readParameters, type TokenParameters } from './form.js'

const ASSERTION_TYPE = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer'

const TokenRequest = Type.Object(
  {
    grant_type: Type.Literal('client_credentials'),
    client_assertion_type: Type.Literal(ASSERTION_TYPE),
    client_assertion: Type.String({
      description: 'A JWT, signed with the private key (RS256 or ES256, kid = key_id): iss, sub, aud, exp, jti.',
    }),
    scope: Type.Optional(Type.String({ description: 'Separated by spaces. Absent: every scope.' })),
    audience: Type.Optional(Type.String({ description: 'From the settings file. Absent: every audience.' })),
    client_id: Type.Optional(Type.String()),
  },
  { $id: 'TokenRequest' },
)

const Token = Type.Object(
  {
    access_token: Type.String(),
    token_type: Type.Literal('Bearer'),
    expires_in: Type.Integer(),
    expires_at: Type.Integer(),
    scope: Type.String(),
  },
  { $id: 'Token' },
)

export function tokenRoutes(auth: AuthSettings): ApiRoute[] {
  return [
    {
      method: 'POST',
      url: TOKEN_PATH,
      handler: tokenEndpoint(auth),
      operation: {
        id: 'issueToken',
        summary: 'An access token for a client assertion of the service account',
        tag: 'tokens',
        oauth: true,
        body: TokenRequest,
        answers: { 200: { description: 'The token. `expires_at` is in seconds since 1970.', body: Token } },
        errors: [],
      },
    },
  ]
}

/** Token buckets are kept for this many addresses. */
const ADDRESSES_MAX = 10_000
const KNOWN_SCOPES = words(SCOPES_OF_SETTINGS)

function tokenEndpoint(auth: AuthSettings): (call: Call) => Promise<object> {
  const rate = { perSecond: auth.tokenRequestsPerSecond, burst: auth.tokenRequestsBurst }
  const addresses = new TokenBuckets(ADDRESSES_MAX)
  let used: UsedAssertions | null = null
  return async function issueToken(call) {
    const { context, request, reply } = call
    try {
      const { waitMs } = addresses.take(networkOf(request.ip), 1, rate, context.clock.now())
      if (waitMs > 0) throw new OAuthError('rate_limited', undefined, { retryAfterMs: waitMs })
      const parameters = await readParameters(call)
      used ??= new UsedAssertions(context.broker)
      const answer = await grant(context, used, parameters, request.headers.authorization !== undefined)
      reply.header('cache-control', 'no-store').header('pragma', 'no-cache')
      return answer
    } catch (error) {
      return answerOAuthError(reply, error, context.log)
    }
  }
}

async function grant(
  context: ApiContext,
  used: UsedAssertions,
  parameters: TokenParameters,
  hasHeader: boolean,
): Promise<object> {
  const { grant_type: grantType } = parameters
  if (grantType === undefined) throw new OAuthError('invalid_request', 'grant_type is missing')
  if (grantType !== 'client_credentials') throw new OAuthError('unsupported_grant_type')
  const assertion = assertionOf(parameters, hasHeader)
  const scopes = scopesOf(parameters)
  const audience = audienceOf(parameters, context.auth)
  const nowMs = context.clock.now()
  const { project, keyId } = await verifyAssertion(assertion, {
    projectOf: (clientId) => context.directory.projectOfClient(clientId),
    audiences: audiencesOfAssertions(context),
    lifetimeSecondsMax: context.auth.assertionSecondsMax,
    nowMs,
    markUsed: (clientId, jti) => used.use(clientId, jti),
  })
  const { clientId } = project.serviceAccount
  if (parameters.client_id !== undefined && parameters.client_id !== clientId) {
    throw new OAuthError('invalid_client', 'client_id is not the one of the assertion')
  }
  const granted = grantedTo(project, scopes)
  const lifetimeSeconds = context.auth.accessTokenSeconds
  const { token, expiresAtMs } = await mintAccessToken(context.keyring, {
    issuer: context.tokenIssuer,
    audience,
    project: project.id,
    clientId,
    keyId,
    scopes: granted,
    tokenId: randomId('', 20),
    nowMs,
    lifetimeSeconds,
  })
  return {
    access_token: token,
    token_type: 'Bearer',
    expires_in: lifetimeSeconds,
    expires_at: Math.floor(expiresAtMs / 1000),
    scope: granted.join(' '),
  }
}

function assertionOf(parameters: TokenParameters, hasHeader: boolean): string {
  const { client_assertion: assertion, client_assertion_type: type } = parameters
  if (assertion === undefined) {
    // A client that used the header learns from it which scheme is right (RFC 6749, section 5.2).
    const challenge = hasHeader ? { challenge: 'Basic realm="client authentication is by private_key_jwt only"' } : {}
    throw new OAuthError('invalid_client', 'client_assertion is missing', challenge)
  }
  if (type !== ASSERTION_TYPE)
    throw new OAuthError('invalid_request', `client_assertion_type must be ${ASSERTION_TYPE}`)
  return assertion
}

/** Absent: every scope. */
function scopesOf({ scope }: TokenParameters): string[] {
  const scopes = scope === undefined ? [...KNOWN_SCOPES] : [...new Set(words(scope))]
  const unknown = scopes.find((one) => !KNOWN_SCOPES.includes(one))
  if (unknown !== undefined)
    throw new OAuthError('invalid_scope', `there is no scope ${JSON.stringify(unknown.slice(0, 64))}`)
  if (scopes.length === 0) throw new OAuthError('invalid_scope', 'no scope is asked for')
  return scopes
}

/** Absent: every audience. */
function audienceOf({ audience }: TokenParameters, auth: AuthSettings): string {
  if (audience === undefined) return auth.audience
  const wanted = [...new Set(words(audience))]
  const known = words(auth.audience)
  if (wanted.length === 0 || !wanted.every((one) => known.includes(one))) {
    throw new OAuthError('invalid_target', `audience must be of ${auth.audience}`)
  }
  return wanted.join(' ')
}

/** The audiences that an assertion may name: the token endpoint, the issuer, and, for clients of ANS, those of access tokens. */
function audiencesOfAssertions({ publicUrl, auth }: ApiContext): string[] {
  const issuer = `${publicUrl()}${AUTH_PATH}`
  return [`${publicUrl()}${TOKEN_PATH}`, issuer, `${issuer}/`, ...words(auth.audience)]
}

/** A suspended project may look at itself, so that its owner sees that it is suspended. */
function grantedTo(project: ProjectRecord, scopes: string[]): string[] {
  if (project.isActive) return scopes
  if (!scopes.includes(Scope.PROJECT_READ)) throw new OAuthError('unauthorized_client')
  return [Scope.PROJECT_READ]
}
