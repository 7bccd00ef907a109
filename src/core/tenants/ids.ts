/** Random identifiers and secrets from a cryptographic random source. */
import { randomBytes, randomInt } from 'node:crypto'

const ALPHABET = 'abcdefghijklmnopqrstuvwxyz0123456789'

/** Returns `prefix` followed by `length` characters of [a-z0-9]. */
export function randomId(prefix: string, length: number): string {
  let id = prefix
  for (let i = 0; i < length; i++) id += ALPHABET.charAt(randomInt(ALPHABET.length))
  return id
}

/** Returns random bytes as base64url. */
export function randomSecret(bytes: number): string {
  return randomBytes(bytes).toString('base64url')
}
