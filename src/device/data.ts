/**
 * Decodes the custom attributes of a notification under limits. The bytes come from an untrusted sender. msgpackr allocates
 * the array that a length announces, and limits neither the depth nor the number of values; so MsgpackWalker first checks
 * the structure without allocating, and msgpackr decodes only bytes that passed. Extension types are refused: attributes
 * have the types of JSON, and binary.
 */
import { Unpackr } from 'msgpackr'
import { DeviceError } from './errors.js'

export type Data = Record<string, unknown>

export interface DataLimits {
  dataBytesMax: number
  dataItemsMax: number
  dataDepthMax: number
}

// 'auto' gives a bigint for an integer beyond 2^53. The package documents it, but its types lack it.
const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true, int64AsType: 'auto' as 'bigint' })

/** Returns {} for empty bytes, and a bigint for each integer beyond 2^53. Throws DeviceError `bad_data`. */
export function decodeData(bytes: Uint8Array, limits: DataLimits): Data {
  if (bytes.length === 0) return {}
  if (bytes.length > limits.dataBytesMax) throw new DeviceError('bad_data', `longer than ${limits.dataBytesMax} bytes`)
  const first = bytes[0] as number
  if ((first & 0xf0) !== 0x80 && first !== 0xde && first !== 0xdf) throw new DeviceError('bad_data', 'not a map')
  const walker = new MsgpackWalker(bytes, limits)
  walker.walkValue(1)
  if (walker.offset !== bytes.length) throw new DeviceError('bad_data', 'bytes after the map')
  try {
    return unpackr.unpack(bytes) as Data
  } catch (cause) {
    throw new DeviceError('bad_data', 'msgpack decoding failed', { cause })
  }
}

/** Walks over msgpack values. It compares each length with the bytes that remain before it uses the length. */
class MsgpackWalker {
  offset = 0
  private items = 0

  constructor(
    private readonly bytes: Uint8Array,
    private readonly limits: DataLimits,
  ) {}

  walkValue(depth: number): void {
    if (++this.items > this.limits.dataItemsMax) throw new DeviceError('bad_data', 'too many values')
    const type = this.readUint(1)
    if (type >= 0x80 && type <= 0x8f) this.walkMap(type & 0x0f, depth)
    else if (type >= 0x90 && type <= 0x9f) this.walkArray(type & 0x0f, depth)
    else if (type >= 0xa0 && type <= 0xbf) this.skip(type & 0x1f)
    else if (type === 0xdc || type === 0xdd) this.walkArray(this.readUint(type === 0xdc ? 2 : 4), depth)
    else if (type === 0xde || type === 0xdf) this.walkMap(this.readUint(type === 0xde ? 2 : 4), depth)
    else if (type >= 0x80 && type <= 0xdf) this.skip(this.scalarBytes(type))
    // The remaining types are small integers, whose value is the type byte itself.
  }

  /** Number of bytes after the type byte of a scalar. Reads the length field of a string or a binary. */
  private scalarBytes(type: number): number {
    switch (type) {
      case 0xc0: // nil
      case 0xc2: // false
      case 0xc3: // true
        return 0
      case 0xc4: // bin 8, str 8
      case 0xd9:
        return this.readUint(1)
      case 0xc5: // bin 16, str 16
      case 0xda:
        return this.readUint(2)
      case 0xc6: // bin 32, str 32
      case 0xdb:
        return this.readUint(4)
      case 0xcc: // uint 8, int 8
      case 0xd0:
        return 1
      case 0xcd: // uint 16, int 16
      case 0xd1:
        return 2
      case 0xca: // float 32, uint 32, int 32
      case 0xce:
      case 0xd2:
        return 4
      case 0xcb: // float 64, uint 64, int 64
      case 0xcf:
      case 0xd3:
        return 8
      default:
        throw new DeviceError('bad_data', 'a type that attributes do not have')
    }
  }

  private walkArray(length: number, depth: number): void {
    this.checkDepth(depth)
    // Each value takes at least one byte.
    if (length > this.bytes.length - this.offset) throw new DeviceError('bad_data', 'cut off')
    for (let i = 0; i < length; i++) this.walkValue(depth + 1)
  }

  private walkMap(length: number, depth: number): void {
    this.checkDepth(depth)
    if (length * 2 > this.bytes.length - this.offset) throw new DeviceError('bad_data', 'cut off')
    for (let i = 0; i < length; i++) {
      const key = this.bytes[this.offset] as number
      const isText = (key & 0xe0) === 0xa0 || (key >= 0xd9 && key <= 0xdb)
      if (!isText) throw new DeviceError('bad_data', 'a key that is not a string')
      this.walkValue(depth + 1)
      this.walkValue(depth + 1)
    }
  }

  /** Maps and arrays count as levels, scalars do not. The outermost map is level 1. */
  private checkDepth(depth: number): void {
    if (depth > this.limits.dataDepthMax) throw new DeviceError('bad_data', 'nested too deeply')
  }

  private skip(length: number): void {
    if (length > this.bytes.length - this.offset) throw new DeviceError('bad_data', 'cut off')
    this.offset += length
  }

  private readUint(length: number): number {
    const from = this.offset
    this.skip(length)
    let value = 0
    for (let i = 0; i < length; i++) value = value * 256 + (this.bytes[from + i] as number)
    return value
  }
}
