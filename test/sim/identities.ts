/** Keys, projects and device tokens. One set serves all runs of a process, because no run depends on their values. */
import { mintDeviceToken } from '../../src/device-token.js'
import { Keyring } from '../../src/keyring.js'

export const ISSUER = 'https://push.sim'
export const PROJECTS = ['red', 'blue'] as const
export const START_MS = Date.UTC(2026, 0, 1)

const YEAR_MS = 365 * 86_400_000

export const keyring = Keyring.generate(START_MS)

/** Each project has one application; this is its id. */
export const applicationOf = (project: string) => `app_${project.padEnd(20, 'a')}`

export const deviceName = (n: number) => `dev_${n.toString(36).padStart(20, '0')}`

const tokens = new Map<string, string>()

export function tokenOf(device: string): string {
  const known = tokens.get(device)
  if (known !== undefined) return known
  const request = { issuer: ISSUER, device, fleet: 'fleet', nowMs: START_MS, lifetimeMs: YEAR_MS }
  const { token } = mintDeviceToken(keyring.signingKey('deviceToken'), request)
  tokens.set(device, token)
  return token
}
