/**
 * Custom attributes of a notification, decoded under limits. The bytes come from any sender, and a msgpack decoder
 * believes lengths and nests as deep as it is told; so the structure is walked first, without allocating, and only what
 * passed is decoded. No extension types: attributes are what JSON has, plus bytes.
 */
import { Unpackr } from 'msgpackr'
import { DeviceError } from './errors.js'

export type Data = Record<string, unknown>

export interface DataLimits {
  dataBytesMax: number
  dataItemsMax: number
  dataDepthMax: number
}

// 'auto' (number where it is exact, bigint beyond) is documented and missing in the package's types.
const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true, int64AsType: 'auto' as 'bigint' })

/** Empty bytes are an empty map. Integers beyond 2^53 come as bigint. Throws DeviceError `bad_data`. */
export function decodeData(bytes: Uint8Array, limits: DataLimits): Data {
  if (bytes.length === 0) return {}
  if (bytes.length > limits.dataBytesMax) throw new DeviceError('bad_data', `longer than ${limits.dataBytesMax} bytes`)
  const first = bytes[0] as number
  if ((first & 0xf0) !== 0x80 && first !== 0xde && first !== 0xdf) throw new DeviceError('bad_data', 'not a map')
  const walk = new Walk(bytes, limits)
  walk.value(1)
  if (walk.at !== bytes.length) throw new DeviceError('bad_data', 'bytes after the map')
  try {
    return unpackr.unpack(bytes) as Data
  } catch (cause) {
    throw new DeviceError('bad_data', 'it does not decode', { cause })
  }
}

/** Steps over one value; every length is checked against what is left before it is believed. */
class Walk {
  at = 0
  private items = 0

  constructor(
    private readonly bytes: Uint8Array,
    private readonly limits: DataLimits,
  ) {}

  value(depth: number): void {
    if (++this.items > this.limits.dataItemsMax) throw new DeviceError('bad_data', 'too many values')
    const type = this.uint(1)
    if (type >= 0x80 && type <= 0x8f) this.map(type & 0x0f, depth)
    else if (type >= 0x90 && type <= 0x9f) this.list(type & 0x0f, depth)
    else if (type >= 0xa0 && type <= 0xbf) this.skip(type & 0x1f)
    else if (type === 0xdc || type === 0xdd) this.list(this.uint(type === 0xdc ? 2 : 4), depth)
    else if (type === 0xde || type === 0xdf) this.map(this.uint(type === 0xde ? 2 : 4), depth)
    else if (type >= 0x80 && type <= 0xdf) this.skip(this.scalarBytes(type))
    // What is left are the small integers: one byte, done.
  }

  /** Bytes after the type byte of a value that holds no others. */
  private scalarBytes(type: number): number {
    switch (type) {
      case 0xc0: // nil
      case 0xc2: // false
      case 0xc3: // true
        return 0
      case 0xc4: // bin 8, str 8
      case 0xd9:
        return this.uint(1)
      case 0xc5: // bin 16, str 16
      case 0xda:
        return this.uint(2)
      case 0xc6: // bin 32, str 32
      case 0xdb:
        return this.uint(4)
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

  private list(length: number, depth: number): void {
    this.checkDepth(depth)
    // Each value is at least one byte.
    if (length > this.bytes.length - this.at) throw new DeviceError('bad_data', 'cut off')
    for (let i = 0; i < length; i++) this.value(depth + 1)
  }

  private map(length: number, depth: number): void {
    this.checkDepth(depth)
    if (length * 2 > this.bytes.length - this.at) throw new DeviceError('bad_data', 'cut off')
    for (let i = 0; i < length; i++) {
      const key = this.bytes[this.at] as number
      const isText = (key & 0xe0) === 0xa0 || (key >= 0xd9 && key <= 0xdb)
      if (!isText) throw new DeviceError('bad_data', 'a key that is not a string')
      this.value(depth + 1)
      this.value(depth + 1)
    }
  }

  /** Of maps and arrays: the outer map is level 1, and a value in the innermost is no level. */
  private checkDepth(depth: number): void {
    if (depth > this.limits.dataDepthMax) throw new DeviceError('bad_data', 'nested too deeply')
  }

  private skip(length: number): void {
    if (length > this.bytes.length - this.at) throw new DeviceError('bad_data', 'cut off')
    this.at += length
  }

  private uint(length: number): number {
    const from = this.at
    this.skip(length)
    let value = 0
    for (let i = 0; i < length; i++) value = value * 256 + (this.bytes[from + i] as number)
    return value
  }
}
