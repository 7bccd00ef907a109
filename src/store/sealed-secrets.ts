/**
 * Secrets in records of the store, encrypted with a key of the keyring (AES-256-GCM). The text is
 * `sealed:<kid>:<base64url of nonce, ciphertext and tag>`. The place of the secret, such as `webhook:shop`, is
 * authenticated, so that nobody moves a secret to another record.
 *
 * Without a key, as with a keyring of release 0.1, secrets are stored in clear text. Clear text is read too.
 */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import type { MacKey } from '../keyring.js'

export interface SecretsKeys {
  /** Encrypts; null: there is no key. */
  readonly active: MacKey | null
  /** A key that decrypts. */
  get(kid: string): MacKey | undefined
}

/** The keys of a running process, which a reload changes. */
export interface LiveSecretsKeys extends SecretsKeys {
  /** Calls the listener after each change. Returns a function that removes it. */
  onChange(listener: () => void): () => void
}

const PREFIX = 'sealed:'
const ALGORITHM = 'aes-256-gcm'
const NONCE_BYTES = 12
const TAG_BYTES = 16

/** The kid of the key that encrypted it; null for clear text. */
export function sealedWith(text: string): string | null {
  return text.startsWith(PREFIX) ? (text.split(':')[1] ?? '') : null
}

/** True if it has to be encrypted again: it is in clear text, or a key other than the active one has encrypted it. */
export function isStale(keys: SecretsKeys, text: string): boolean {
  return keys.active !== null && sealedWith(text) !== keys.active.kid
}

/** Clear text if there is no key. */
export function seal({ active }: SecretsKeys, secret: string, place: string): string {
  if (active === null) return secret
  const nonce = randomBytes(NONCE_BYTES)
  const cipher = createCipheriv(ALGORITHM, active.secret.subarray(0, 32), nonce, { authTagLength: TAG_BYTES })
  cipher.setAAD(Buffer.from(place))
  const sealed = Buffer.concat([nonce, cipher.update(secret, 'utf8'), cipher.final(), cipher.getAuthTag()])
  return `${PREFIX}${active.kid}:${sealed.toString('base64url')}`
}

/** Null if the keyring has no key for it, or if it was changed or belongs to another place. */
export function open(keys: SecretsKeys, text: string, place: string): string | null {
  const kid = sealedWith(text)
  if (kid === null) return text
  const key = keys.get(kid)
  const sealed = Buffer.from(text.slice(PREFIX.length + kid.length + 1), 'base64url')
  if (!key || sealed.length < NONCE_BYTES + TAG_BYTES) return null
  const end = sealed.length - TAG_BYTES
  try {
    const decipher = createDecipheriv(ALGORITHM, key.secret.subarray(0, 32), sealed.subarray(0, NONCE_BYTES), {
      authTagLength: TAG_BYTES,
    })
    decipher.setAAD(Buffer.from(place))
    decipher.setAuthTag(sealed.subarray(end))
    return Buffer.concat([decipher.update(sealed.subarray(NONCE_BYTES, end)), decipher.final()]).toString('utf8')
  } catch {
    // The tag does not fit.
    return null
  }
}
