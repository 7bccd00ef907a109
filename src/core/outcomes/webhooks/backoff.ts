import type { WebhookSettings } from './settings.js'

/**
 * The wait after a number of consecutive failures. It doubles with each failure, and half of it is random, so that webhooks
 * that failed together are not tried together.
 * @param failures 1 or more.
 */
export function backoffOf(
  failures: number,
  { backoffMs, backoffMaxMs }: Pick<WebhookSettings, 'backoffMs' | 'backoffMaxMs'>,
  random: () => number,
): number {
  const fullMs = Math.min(backoffMaxMs, backoffMs * 2 ** Math.min(failures - 1, 30))
  return Math.ceil(fullMs / 2 + (random() * fullMs) / 2)
}

/** Parses `Retry-After`: seconds or a date. Null: the header is absent or invalid. */
export function retryAfterOf(header: string | undefined, nowMs: number): number | null {
  if (header === undefined) return null
  if (/^[0-9]{1,9}$/.test(header)) return Number(header) * 1_000
  const atMs = Date.parse(header)
  return Number.isNaN(atMs) ? null : Math.max(0, atMs - nowMs)
}
