/** Where app servers reach the API, as they are told: http.publicUrl, or where it listens. Without a slash at the end. */

import type { AuthSettings } from '../tenants/auth/settings.js'
import { AUTH_PATH } from '../tenants/settings-file.js'
import type { HttpSettings } from './settings.js'

export function publicUrlOf({ publicUrl, host, port }: Pick<HttpSettings, 'publicUrl' | 'host' | 'port'>): string {
  if (publicUrl !== '') return publicUrl.replace(/\/+$/, '')
  return `http://${authorityOf(host, port)}`
}

/** The address at which this machine reaches what listens on `host`. */
export function reachableHost(host: string): string {
  return host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host
}

/** The same with its port, as it stands in a URL. */
export function authorityOf(host: string, port: number): string {
  const name = reachableHost(host)
  return `${name.includes(':') ? `[${name}]` : name}:${port}`
}

/**
 * Who signs access tokens: the first, and all of them are believed. Only an address that was configured is a name that
 * all cores agree on; so where there is none, it is auth.issuer. That one is believed always: administration mints with it.
 */
export function tokenIssuersOf(http: Pick<HttpSettings, 'publicUrl' | 'host' | 'port'>, auth: AuthSettings): string[] {
  return http.publicUrl === '' ? [auth.issuer] : [`${publicUrlOf(http)}${AUTH_PATH}`, auth.issuer]
}
