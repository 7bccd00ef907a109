/** Where stock OAuth clients find the token endpoint, and whoever checks access tokens the keys (RFC 8414, RFC 7517). */
import Type from 'typebox'
import { SCOPES_OF_SETTINGS, words } from '../../tenants/auth/tokens.js'
import { AUTH_PATH, TOKEN_PATH } from '../../tenants/settings-file.js'
import type { ApiRoute, Call } from '../public/context.js'

const JWKS_PATH = `${AUTH_PATH}/.well-known/jwks.json`

/** As RFC 8414 builds it (the issuer's path last), and as OpenID Connect does (the issuer's path first). */
const METADATA_PATHS = [
  `/.well-known/oauth-authorization-server${AUTH_PATH}`,
  `${AUTH_PATH}/.well-known/oauth-authorization-server`,
  `${AUTH_PATH}/.well-known/openid-configuration`,
] as const

/** Clients may keep it for so long: a key is added at least so long before anything is signed with it alone. */
const CACHE_SECONDS = 300

const Metadata = Type.Object({
  issuer: Type.String(),
  token_endpoint: Type.String(),
  jwks_uri: Type.String(),
  scopes_supported: Type.Array(Type.String()),
  response_types_supported: Type.Array(Type.String()),
  grant_types_supported: Type.Array(Type.String()),
  token_endpoint_auth_methods_supported: Type.Array(Type.String()),
  token_endpoint_auth_signing_alg_values_supported: Type.Array(Type.String()),
})

const Keys = Type.Object({
  keys: Type.Array(Type.Object({ kid: Type.String(), kty: Type.String(), alg: Type.String(), use: Type.String() })),
})

export const discoveryRoutes: readonly ApiRoute[] = [
  ...METADATA_PATHS.map(
    (url, index): ApiRoute => ({
      ...{ method: 'GET', url, handler: showMetadata },
      operation: {
        id: ['authorizationServer', 'authorizationServerBelow', 'openidConfiguration'][index] ?? url,
        summary: 'Where tokens come from, and how they are asked for (RFC 8414)',
        tag: 'tokens',
        answers: { 200: { description: 'The metadata.', body: Metadata } },
        errors: [],
      },
    }),
  ),
  {
    ...{ method: 'GET', url: JWKS_PATH, handler: showKeys },
    operation: {
      id: 'jwks',
      summary: 'The public keys of access tokens',
      tag: 'tokens',
      answers: { 200: { description: 'A JWK set.', body: Keys } },
      errors: [],
    },
  },
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

/** Public keys of access tokens: the one that signs, and those before it that still verify. */
function showKeys({ context, reply }: Call): object {
  reply.header('cache-control', `public, max-age=${CACHE_SECONDS}`)
  const keys = context.keyring.publicKeys('accessToken')
  return { keys: keys.map(({ kid, publicJwk }) => ({ ...publicJwk, kid, alg: 'ES256', use: 'sig' })) }
}
