import type { WebhookSettings } from './settings.js'

/**
 * How long to wait after so many failures in a row: doubled each time, and half of it by chance, so that receivers that
 * failed together are not tried together.
 * @param failures from 1.
 */
export function backoffOf(
  failures: number,
  { backoffMs, backoffMaxMs }: Pick<WebhookSettings, 'backoffMs' | 'backoffMaxMs'>,
  random: () => number,
): number {
  const fullMs = Math.min(backoffMaxMs, backoffMs * 2 ** Math.min(failures - 1, 30))
  return Math.ceil(fullMs / 2 + (random() * fullMs) / 2)
}

/** `Retry-After`: seconds, or a date. Null where it is neither. */
export function retryAfterOf(header: string | undefined, nowMs: number): number | null {
  if (header === undefined) return null
  if (/^[0-9]{1,9}$/.test(header)) return Number(header) * 1_000
  const atMs = Date.parse(header)
  return Number.isNaN(atMs) ? null : Math.max(0, atMs - nowMs)
}
