/** Decodes msgpack from an untrusted sender. error.ts says why this is our own code. */
import { type JsonValue, MsgpackError } from './error.js'

/**
 * Decodes exactly one value. Maps become objects without a prototype. Throws MsgpackError `malformed`, `too_deep`, or
 * `not_json` (binary, extensions, and integers beyond 2^53, which JSON parsers would round). Memory is bounded by the length
 * of the bytes, because each announced length is compared with the bytes that remain.
 */
export function decodeMsgpack(bytes: Uint8Array, depthMax: number): JsonValue {
  const reader = new Reader(bytes)
  const value = readValue(reader, depthMax)
  if (!reader.atEnd()) throw new MsgpackError('malformed', 'bytes after the value')
  return value
}

function readValue(r: Reader, depthLeft: number): JsonValue {
  const tag = r.take(1).getUint8(0)
  if (tag < 0x80) return tag
  if (tag < 0x90) return readMap(r, tag & 0x0f, depthLeft)
  if (tag < 0xa0) return readArray(r, tag & 0x0f, depthLeft)
  if (tag < 0xc0) return r.text(tag & 0x1f)
  if (tag >= 0xe0) return tag - 0x100
  return readTagged(r, tag, depthLeft)
}

function readTagged(r: Reader, tag: number, depthLeft: number): JsonValue {
  switch (tag) {
    case 0xc0:
      return null
    case 0xc2:
      return false
    case 0xc3:
      return true
    case 0xca:
      return finite(r.take(4).getFloat32(0))
    case 0xcb:
      return finite(r.take(8).getFloat64(0))
    case 0xcc:
      return r.take(1).getUint8(0)
    case 0xcd:
      return r.take(2).getUint16(0)
    case 0xce:
      return r.take(4).getUint32(0)
    case 0xcf:
      return safe(r.take(8).getBigUint64(0))
    case 0xd0:
      return r.take(1).getInt8(0)
    case 0xd1:
      return r.take(2).getInt16(0)
    case 0xd2:
      return r.take(4).getInt32(0)
    case 0xd3:
      return safe(r.take(8).getBigInt64(0))
    case 0xd9:
      return r.text(r.take(1).getUint8(0))
    case 0xda:
      return r.text(r.take(2).getUint16(0))
    case 0xdb:
      return r.text(r.take(4).getUint32(0))
    case 0xdc:
      return readArray(r, r.take(2).getUint16(0), depthLeft)
    case 0xdd:
      return readArray(r, r.take(4).getUint32(0), depthLeft)
    case 0xde:
      return readMap(r, r.take(2).getUint16(0), depthLeft)
    case 0xdf:
      return readMap(r, r.take(4).getUint32(0), depthLeft)
    case 0xc1:
      throw new MsgpackError('malformed', 'a byte that msgpack never uses')
    default:
      throw new MsgpackError('not_json', 'holds binary or an extension')
  }
}

function readArray(r: Reader, count: number, depthLeft: number): JsonValue[] {
  if (depthLeft === 0) throw new MsgpackError('too_deep', 'nested too deep')
  r.expect(count)
  const entries: JsonValue[] = []
  for (let i = 0; i < count; i++) entries.push(readValue(r, depthLeft - 1))
  return entries
}

function readMap(r: Reader, count: number, depthLeft: number): { [key: string]: JsonValue } {
  if (depthLeft === 0) throw new MsgpackError('too_deep', 'nested too deep')
  r.expect(2 * count)
  const map = Object.create(null) as { [key: string]: JsonValue }
  for (let i = 0; i < count; i++) {
    const key = readValue(r, 0)
    if (typeof key !== 'string') throw new MsgpackError('not_json', 'holds a map whose keys are not strings')
    map[key] = readValue(r, depthLeft - 1)
  }
  return map
}

function finite(value: number): number {
  if (Number.isFinite(value)) return value
  throw new MsgpackError('not_json', 'holds a number that is not finite')
}

function safe(value: bigint): number {
  const number = Number(value)
  if (Number.isSafeInteger(number)) return number
  throw new MsgpackError('not_json', 'holds an integer beyond 53 bits')
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

class Reader {
  private readonly view: DataView
  private position = 0

  constructor(private readonly bytes: Uint8Array) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  atEnd(): boolean {
    return this.position === this.bytes.length
  }

  expect(bytes: number): void {
    if (this.position + bytes > this.bytes.length) throw new MsgpackError('malformed', 'it ends too early')
  }

  take(bytes: number): DataView {
    this.expect(bytes)
    const view = new DataView(this.view.buffer, this.view.byteOffset + this.position, bytes)
    this.position += bytes
    return view
  }

  text(bytes: number): string {
    this.expect(bytes)
    const part = this.bytes.subarray(this.position, this.position + bytes)
    this.position += bytes
    try {
      return utf8.decode(part)
    } catch {
      throw new MsgpackError('malformed', 'a string that is not UTF-8')
    }
  }
}
