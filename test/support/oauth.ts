/** Requests to the token endpoint: through a stock OAuth client, or with assertions that a test can falsify. */
import { randomUUID } from 'node:crypto'
import { importPKCS8, SignJWT } from 'jose'
import * as oauth from 'oauth4webapi'
import type { PrivateServiceKey } from '../../src/core/tenants/auth/service-keys.js'
import { TOKEN_PATH } from '../../src/core/tenants/settings-file.js'
import type { TestApi } from './api.js'

export const ASSERTION_TYPE = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer'
const http = { [oauth.allowInsecureRequests]: true }

export interface StockClient {
  issuer: string
  clientId: string
  keyId: string
  /** PKCS #8 as PEM. */
  privateKey: string
  alg: 'RS256' | 'ES256'
}

/** Runs discovery and requests a token with oauth4webapi alone. Throws the errors of that library. */
export async function stockToken(
  client: StockClient,
  parameters: Record<string, string>,
  algorithm: 'oauth2' | 'oidc' = 'oauth2',
): Promise<oauth.TokenEndpointResponse> {
  const as = await discovered(client.issuer, algorithm)
  const key = await importPKCS8(client.privateKey, client.alg)
  const auth = oauth.PrivateKeyJwt({ key, kid: client.keyId })
  const oauthClient = { client_id: client.clientId }
  const response = await oauth.clientCredentialsGrantRequest(as, oauthClient, auth, parameters, http)
  return oauth.processClientCredentialsResponse(as, oauthClient, response)
}

export async function discovered(issuer: string, algorithm: 'oauth2' | 'oidc' = 'oauth2') {
  const url = new URL(issuer)
  return oauth.processDiscoveryResponse(url, await oauth.discoveryRequest(url, { algorithm, ...http }))
}

export interface Assertion {
  header?: Record<string, unknown>
  /** Override the valid claims; a claim that is undefined is left out. */
  claims?: Record<string, unknown>
  key?: PrivateServiceKey
}

/** A valid client assertion with the given changes. */
export async function assertionOf(api: TestApi, { header, claims, key = api.serviceKey }: Assertion = {}) {
  const now = Math.floor(api.clock.now() / 1000)
  const good = {
    iss: api.clientId,
    sub: api.clientId,
    aud: 'borealis-push',
    iat: now,
    exp: now + 60,
    jti: randomUUID(),
  }
  const payload = Object.fromEntries(Object.entries({ ...good, ...claims }).filter(([, value]) => value !== undefined))
  return new SignJWT(payload)
    .setProtectedHeader({ alg: key.alg, kid: key.keyId, ...header })
    .sign(await importPKCS8(key.privateKey, key.alg))
}

export interface TokenAnswer {
  status: number
  headers: Record<string, unknown>
  // biome-ignore lint/suspicious/noExplicitAny: bodies are compared, not trusted
  body: any
}

export interface TokenAsk {
  /** Override the valid parameters; a parameter that is undefined is left out. */
  parameters?: Record<string, unknown>
  form?: boolean
  /** The body, in place of parameters. */
  raw?: { type: string; text: string }
  headers?: Record<string, string>
  address?: string
}

export async function askToken(api: TestApi, ask: TokenAsk = {}): Promise<TokenAnswer> {
  const { parameters = {}, form = false, raw, headers = {}, address = '10.0.0.1' } = ask
  const assertion = 'client_assertion' in parameters ? '' : await assertionOf(api)
  const good = {
    grant_type: 'client_credentials',
    client_assertion_type: ASSERTION_TYPE,
    client_assertion: assertion,
    scope: 'openid offline message:update project:read',
    audience: 'borealis-push',
  }
  const all = Object.entries({ ...good, ...parameters }).filter(([, value]) => value !== undefined)
  const text = form
    ? new URLSearchParams(all.map(([name, value]): [string, string] => [name, String(value)])).toString()
    : JSON.stringify(Object.fromEntries(all))
  const type = form ? 'application/x-www-form-urlencoded' : 'application/json'
  const response = await api.gateway.app.inject({
    method: 'POST',
    url: TOKEN_PATH,
    remoteAddress: address,
    headers: { 'content-type': raw?.type ?? type, ...headers },
    payload: raw?.text ?? text,
  })
  return { status: response.statusCode, headers: response.headers, body: JSON.parse(response.body) }
}
