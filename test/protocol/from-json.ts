/** Converts the JSON form of a frame in the vectors into a frame that the encoder accepts. */
import type { Frame } from '../../protocol/frame-types.js'
import { bytesOf } from './support.js'

const asBigint = new Set(['id', 'queue', 'incarnation'])
const asBytes = new Set(['ticket', 'data'])

export function frameFromJson(json: unknown): Frame {
  return convert(json, '') as Frame
}

function convert(value: unknown, key: string): unknown {
  if (Array.isArray(value)) return value.map((item) => (key === 'ids' ? BigInt(item as string) : convert(item, key)))
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([inner, v]) => [inner, convert(v, inner)]))
  }
  if (typeof value === 'string' && asBigint.has(key)) return BigInt(value)
  // `ticket` is also the value of a credential's kind, so the key decides.
  if (typeof value === 'string' && asBytes.has(key)) return bytesOf(value)
  return value
}
