/** From the JSON form of a vector back to a frame of ours, so that the encoder can be given it. */
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
  // A credential's kind is named like its field.
  if (typeof value === 'string' && asBytes.has(key)) return bytesOf(value)
  return value
}
