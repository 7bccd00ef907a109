/** The address at which app servers reach the API: http.publicUrl, or the address of the listener; no slash at the end. */
import type { AuthSettings } from '../tenants/auth/settings.js'
import { AUTH_PATH } from '../tenants/settings-file.js'
import type { HttpSettings } from './settings.js'

export function publicUrlOf({ publicUrl, host, port }: Pick<HttpSettings, 'publicUrl' | 'host' | 'port'>): string {
  if (publicUrl !== '') return publicUrl.replace(/\/+$/, '')
  return `http://${authorityOf(host, port)}`
}

/** The address at which this machine reaches a listener on `host`. */
export function reachableHost(host: string): string {
  return host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host
}

/** Host and port as a URL has them. */
export function authorityOf(host: string, port: number): string {
  const name = reachableHost(host)
  return `${name.includes(':') ? `[${name}]` : name}:${port}`
}

/**
 * The issuers of access tokens (`iss`): the first signs new tokens, and tokens of all are accepted. All cores must agree on
 * the name, so it is an address only where one is configured, and else auth.issuer. Tokens of auth.issuer are always
 * accepted, since administration mints with it.
 */
export function tokenIssuersOf(http: Pick<HttpSettings, 'publicUrl' | 'host' | 'port'>, auth: AuthSettings): string[] {
  return http.publicUrl === '' ? [auth.issuer] : [`${publicUrlOf(http)}${AUTH_PATH}`, auth.issuer]
}
