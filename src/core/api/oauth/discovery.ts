/** Discovery documents: OAuth clients find the token endpoint (RFC 8414), and verifiers of access tokens the keys (RFC 7517). */
import Type from 'typebox'
import { SCOPES_OF_SETTINGS, words } from '../../tenants/auth/tokens.js'
import { AUTH_PATH, TOKEN_PATH } from '../../tenants/settings-file.js'
import { type ApiRoute, anybody, type Call } from '../public/context.js'
import { route } from '../route.js'

const JWKS_PATH = `${AUTH_PATH}/.well-known/jwks.json`

/** RFC 8414 puts the issuer's path last, and OpenID Connect puts it first. */
const METADATA_PATHS = [
  `/.well-known/oauth-authorization-server${AUTH_PATH}`,
  `${AUTH_PATH}/.well-known/oauth-authorization-server`,
  `${AUTH_PATH}/.well-known/openid-configuration`,
] as const

/** Clients may cache for this time, so a new key is published at least this long before tokens are signed with it. */
const CACHE_SECONDS = 300

const Metadata = Type.Object(
  {
    issuer: Type.String(),
    token_endpoint: Type.String(),
    jwks_uri: Type.String(),
    scopes_supported: Type.Array(Type.String()),
    response_types_supported: Type.Array(Type.String()),
    grant_types_supported: Type.Array(Type.String()),
    token_endpoint_auth_methods_supported: Type.Array(Type.String()),
    token_endpoint_auth_signing_alg_values_supported: Type.Array(Type.String()),
  },
  { $id: 'AuthorizationServerMetadata' },
)

const Keys = Type.Object(
  {
    keys: Type.Array(
      Type.Object(
        { kid: Type.String(), kty: Type.String(), alg: Type.String(), use: Type.String() },
        { $id: 'JsonWebKey' },
      ),
    ),
  },
  { $id: 'JsonWebKeySet' },
)

export const discoveryRoutes: readonly ApiRoute[] = [
  ...METADATA_PATHS.map((url, index) =>
    route({
      method: 'GET',
      url,
      before: anybody,
      handler: showMetadata,
      operation: {
        id: ['authorizationServer', 'authorizationServerBelow', 'openidConfiguration'][index] ?? url,
        summary: 'Metadata of the token endpoint (RFC 8414)',
        tag: 'tokens',
        answers: { 200: { description: 'The metadata.', body: Metadata } },
        errors: [],
      },
    }),
  ),
  route({
    method: 'GET',
    url: JWKS_PATH,
    before: anybody,
    handler: showKeys,
    operation: {
      id: 'jwks',
      summary: 'The public keys of access tokens',
      tag: 'tokens',
      answers: { 200: { description: 'A JWK set.', body: Keys } },
      errors: [],
    },
  }),
]

function showMetadata({ context, reply }: Call): object {
  const url = context.publicUrl()
  reply.header('cache-control', `public, max-age=${CACHE_SECONDS}`)
  return {
    issuer: `${url}${AUTH_PATH}`,
    token_endpoint: `${url}${TOKEN_PATH}`,
    jwks_uri: `${url}${JWKS_PATH}`,
    scopes_supported: words(SCOPES_OF_SETTINGS),
    response_types_supported: [],
    grant_types_supported: ['client_credentials'],
    token_endpoint_auth_methods_supported: ['private_key_jwt'],
    token_endpoint_auth_signing_alg_values_supported: ['RS256', 'ES256'],
  }
}

/** The key that signs access tokens, and older ones that still verify them. */
function showKeys({ context, reply }: Call): object {
  reply.header('cache-control', `public, max-age=${CACHE_SECONDS}`)
  const keys = context.keyring.publicKeys('accessToken')
  return { keys: keys.map(({ kid, publicJwk }) => ({ ...publicJwk, kid, alg: 'ES256', use: 'sig' })) }
}
