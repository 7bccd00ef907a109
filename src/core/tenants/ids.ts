/** Random identifiers and secrets, from the system's random source. */
import { randomBytes, randomInt } from 'node:crypto'

const ALPHABET = 'abcdefghijklmnopqrstuvwxyz0123456789'

/** `prefix` and `length` characters of [a-z0-9]. */
export function randomId(prefix: string, length: number): string {
  let id = prefix
  for (let i = 0; i < length; i++) id += ALPHABET.charAt(randomInt(ALPHABET.length))
  return id
}

/** base64url of so many random bytes. */
export function randomSecret(bytes: number): string {
  return randomBytes(bytes).toString('base64url')
}
