/**
 * The JSON form of frames in vectors/*.json and `borealis frame --json`: 64-bit ids are decimal strings, bytes are hex.
 */
import type { Frame, UnknownFrame } from './frame-types.js'

export type JsonForm = string | number | boolean | null | JsonForm[] | { [key: string]: JsonForm }

export function frameToJson(frame: Frame | UnknownFrame): JsonForm {
  return toJson(frame)
}

export function toHex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
}

/** Null if the text is not whole bytes in hex. Ignores white space, commas, colons and 0x. */
export function fromHex(text: string): Uint8Array | null {
  const digits = text.replace(/0x|[\s,:]/gi, '')
  if (!/^([0-9a-f]{2})*$/i.test(digits)) return null
  return Uint8Array.from(digits.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16))
}

function toJson(value: unknown): JsonForm {
  if (typeof value === 'bigint') return value.toString()
  if (value instanceof Uint8Array) return toHex(value)
  if (Array.isArray(value)) return value.map(toJson)
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, toJson(inner)]))
  }
  return value as string | number | boolean | null
}
