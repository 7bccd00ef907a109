/** Encodes the custom attributes of a message as msgpack. error.ts says why this is our own code. */
import { isWellFormed } from '../schema.js'
import { MsgpackError } from './error.js'

export interface MsgpackLimits {
  bytesMax: number
  depthMax: number
}

/** Throws MsgpackError `too_large`, `too_deep` or `not_json` (also for a string that is not well-formed Unicode). */
export function encodeMsgpack(value: unknown, limits: MsgpackLimits): Uint8Array {
  const writer = new Writer(limits.bytesMax)
  writeValue(writer, value, limits.depthMax)
  return writer.bytes()
}

function writeValue(w: Writer, value: unknown, depthLeft: number): void {
  if (value === null) w.byte(0xc0)
  else if (value === false) w.byte(0xc2)
  else if (value === true) w.byte(0xc3)
  else if (typeof value === 'number') writeNumber(w, value)
  else if (typeof value === 'string') writeString(w, value)
  else if (typeof value === 'bigint')
    throw new MsgpackError('not_json', 'holds an integer beyond 2^53-1: send it as text')
  else if (depthLeft === 0) throw new MsgpackError('too_deep', 'nested too deep')
  else if (Array.isArray(value)) {
    w.head(value.length, 0x90, 15, [0, 0xdc, 0xdd])
    for (const entry of value) writeValue(w, entry, depthLeft - 1)
  } else if (isPlainObject(value)) {
    const keys = Object.keys(value)
    w.head(keys.length, 0x80, 15, [0, 0xde, 0xdf])
    for (const key of keys) {
      writeString(w, key)
      writeValue(w, value[key], depthLeft - 1)
    }
  } else throw new MsgpackError('not_json', `holds a ${typeof value}`)
}

function writeNumber(w: Writer, value: number): void {
  if (!Number.isFinite(value)) throw new MsgpackError('not_json', 'holds a number that is not finite')
  if (!Number.isSafeInteger(value)) w.with(9, 0xcb, (view) => view.setFloat64(1, value))
  else if (value >= 0) {
    if (value < 0x80) w.byte(value)
    else if (value < 0x100) w.with(2, 0xcc, (view) => view.setUint8(1, value))
    else if (value < 0x10000) w.with(3, 0xcd, (view) => view.setUint16(1, value))
    else if (value < 0x100000000) w.with(5, 0xce, (view) => view.setUint32(1, value))
    else w.with(9, 0xcf, (view) => view.setBigUint64(1, BigInt(value)))
  } else if (value >= -0x20) w.byte(value & 0xff)
  else if (value >= -0x80) w.with(2, 0xd0, (view) => view.setInt8(1, value))
  else if (value >= -0x8000) w.with(3, 0xd1, (view) => view.setInt16(1, value))
  else if (value >= -0x80000000) w.with(5, 0xd2, (view) => view.setInt32(1, value))
  else w.with(9, 0xd3, (view) => view.setBigInt64(1, BigInt(value)))
}

function writeString(w: Writer, text: string): void {
  // Checked before the work: UTF-8 has at least as many bytes as the string has UTF-16 units.
  w.expect(text.length)
  if (!isWellFormed(text)) throw new MsgpackError('not_json', 'holds a string that is not well-formed Unicode')
  const bytes = Buffer.from(text, 'utf8')
  w.head(bytes.length, 0xa0, 31, [0xd9, 0xda, 0xdb])
  w.raw(bytes)
}

class Writer {
  private readonly buffer: Buffer
  private length = 0

  constructor(private readonly bytesMax: number) {
    this.buffer = Buffer.allocUnsafe(bytesMax)
  }

  bytes(): Uint8Array {
    return Uint8Array.prototype.slice.call(this.buffer, 0, this.length)
  }

  expect(bytes: number): void {
    if (this.length + bytes > this.bytesMax) throw new MsgpackError('too_large', `more than ${this.bytesMax} bytes`)
  }

  byte(value: number): void {
    this.expect(1)
    this.buffer[this.length++] = value
  }

  raw(bytes: Buffer): void {
    this.expect(bytes.length)
    bytes.copy(this.buffer, this.length)
    this.length += bytes.length
  }

  with(bytes: number, tag: number, fill: (view: DataView) => void): void {
    this.expect(bytes)
    const view = new DataView(this.buffer.buffer, this.buffer.byteOffset + this.length, bytes)
    view.setUint8(0, tag)
    fill(view)
    this.length += bytes
  }

  /** Writes the shortest head for a count of entries or bytes: in the tag, or with 8 (tag8 0: not available), 16 or 32 bits. */
  head(count: number, small: number, smallMax: number, [tag8, tag16, tag32]: [number, number, number]): void {
    // Each entry takes at least one byte.
    this.expect(count)
    if (count <= smallMax) this.byte(small | count)
    else if (tag8 && count < 0x100) this.with(2, tag8, (view) => view.setUint8(1, count))
    else if (count < 0x10000) this.with(3, tag16, (view) => view.setUint16(1, count))
    else this.with(5, tag32, (view) => view.setUint32(1, count))
  }
}

function isPlainObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}
