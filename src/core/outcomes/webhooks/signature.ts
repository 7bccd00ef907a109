/**
 * Signs webhooks as the Standard Webhooks specification says: HMAC-SHA256 over `id.timestamp.body`, one for each valid secret.
 *
 * This is our own code because it is one HMAC of node:crypto, and two secrets sign during a rotation. A library would add a
 * dependency and save no code.
 */
import { createHash, createHmac, randomBytes } from 'node:crypto'
import type { WebhookSecret } from '../../../store/feeds.js'

const PREFIX = 'whsec_'
const KEY_BYTES = 32
const ID_CHARACTERS = 22

export const newWebhookSecret = () => PREFIX + randomBytes(KEY_BYTES).toString('base64')

/** @param secret `whsec_` and base64 of the key. @param timestamp Unix seconds. */
export function signatureOf(secret: string, id: string, timestamp: number, body: Uint8Array): string {
  const key = Buffer.from(secret.slice(PREFIX.length), 'base64')
  return `v1,${createHmac('sha256', key).update(`${id}.${timestamp}.`).update(body).digest('base64')}`
}

/** Two POSTs of the same events have the same id, even from different processes. */
export function batchIdOf(bodies: readonly Uint8Array[]): string {
  const hash = createHash('sha256')
  for (const body of bodies) hash.update(body).update('\n')
  return `batch_${hash.digest('base64url').slice(0, ID_CHARACTERS)}`
}

/** The secrets that sign now, newest first. */
export function goodSecrets(secrets: readonly WebhookSecret[], nowMs: number): WebhookSecret[] {
  return secrets.filter(({ endsAtMs }) => endsAtMs === null || endsAtMs > nowMs)
}

export function signedHeaders(
  secrets: readonly WebhookSecret[],
  id: string,
  body: Uint8Array,
  nowMs: number,
): Record<string, string> {
  const timestamp = Math.floor(nowMs / 1_000)
  const signatures = goodSecrets(secrets, nowMs).map(({ secret }) => signatureOf(secret, id, timestamp, body))
  return {
    'webhook-id': id,
    'webhook-timestamp': String(timestamp),
    'webhook-signature': signatures.join(' '),
  }
}
