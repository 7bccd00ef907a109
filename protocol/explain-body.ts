/** The rows of one body: a walk over protobuf fields that names the known ones and stops where the bytes end. */
import { toHex } from './json-form.js'
import { type BodyName, bodies, type FieldShape } from './schema.js'

export interface Row {
  offset: number
  /** 0: the frame; 1: fields of its body; 2: fields of a message in the body. */
  depth: number
  hex: string
  meaning: string
}

interface Span {
  at: number
  end: number
  body: BodyName
  depth: number
}

const WIRE = { VARINT: 0, FIXED64: 1, BYTES: 2, GROUP: 3, GROUP_END: 4, FIXED32: 5 } as const

const wireOfKind: Record<FieldShape['kind'], number> = {
  uint32: WIRE.VARINT,
  uint64: WIRE.VARINT,
  enum: WIRE.VARINT,
  fixed64: WIRE.FIXED64,
  fixed32: WIRE.FIXED32,
  ids: WIRE.BYTES,
  numbers: WIRE.BYTES,
  string: WIRE.BYTES,
  bytes: WIRE.BYTES,
  message: WIRE.BYTES,
}

export function explainBody(bytes: Uint8Array, span: Span, rows: Row[]): void {
  let { at } = span
  while (at < span.end) {
    const next = explainField(bytes, at, span, rows)
    if (next === null) {
      rows.push(row(bytes, at, span.end, span.depth, 'unreadable: the body ends inside a field'))
      return
    }
    at = next
  }
}

/** The offset after the field; null if the field does not end inside the span. */
function explainField(bytes: Uint8Array, at: number, span: Span, rows: Row[]): number | null {
  const tag = varint(bytes, at, span.end)
  if (!tag) return null
  const number = Number(tag.value >> 3n)
  const wire = Number(tag.value & 7n)
  const shape = bodies[span.body][number]
  const fits = shape && (wireOfKind[shape.kind] === wire || wire === unpackedWireOf(shape))
  const label = fits ? `${shape.name} (${number})` : `skipped: unknown field ${number}`
  const put = (end: number, meaning: string) => {
    rows.push(row(bytes, at, end, span.depth, meaning))
    return end
  }
  switch (wire) {
    case WIRE.VARINT: {
      const value = varint(bytes, tag.end, span.end)
      return value && put(value.end, `${label} = ${fits ? named(shape, value.value) : value.value}`)
    }
    case WIRE.FIXED64:
    case WIRE.FIXED32: {
      const end = tag.end + (wire === WIRE.FIXED64 ? 8 : 4)
      return end > span.end ? null : put(end, `${label} = ${littleEndian(bytes, tag.end, end)}`)
    }
    case WIRE.BYTES: {
      const length = varint(bytes, tag.end, span.end)
      if (!length || length.value > BigInt(span.end - length.end)) return null
      const end = length.end + Number(length.value)
      if (fits && shape.kind === 'message') {
        put(length.end, `${label}: ${length.value} bytes`)
        explainBody(bytes, { at: length.end, end, body: shape.body, depth: span.depth + 1 }, rows)
        return end
      }
      const content = bytes.subarray(length.end, end)
      return put(end, `${label} = ${fits ? contentText(shape, content) : `${content.length} bytes`}`)
    }
    case WIRE.GROUP:
      return put(tag.end, `skipped: unknown field ${number}, a group begins`)
    case WIRE.GROUP_END:
      return put(tag.end, `skipped: group ${number} ends`)
    default:
      return put(span.end, `unreadable: protobuf has no wire type ${wire}`)
  }
}

/** The wire type of one value of a repeated field that is not packed. */
function unpackedWireOf({ kind }: FieldShape): number | null {
  return kind === 'ids' ? WIRE.FIXED64 : kind === 'numbers' ? WIRE.VARINT : null
}

function named(shape: FieldShape, value: bigint): string {
  if (shape.kind !== 'enum') return value.toString()
  const name = value < 64n ? shape.values[Number(value)] : undefined
  return name ? `${value} (${name})` : `${value} (unknown: reads as ${shape.values[0]})`
}

function contentText(shape: FieldShape, content: Uint8Array): string {
  if (shape.kind === 'ids') {
    if (content.length % 8 !== 0) return `unreadable: ${content.length} bytes are not whole ids`
    const ids: string[] = []
    for (let at = 0; at < content.length; at += 8) ids.push(littleEndian(content, at, at + 8).toString())
    return `[${ids.join(', ')}]`
  }
  if (shape.kind === 'numbers') {
    const numbers: bigint[] = []
    for (let at = 0; at < content.length; ) {
      const number = varint(content, at, content.length)
      if (number === null) return 'unreadable: the last number has no end'
      numbers.push(BigInt.asUintN(32, number.value))
      at = number.end
    }
    return `[${numbers.join(', ')}]`
  }
  if (shape.kind === 'bytes') return `${content.length} bytes`
  try {
    return JSON.stringify(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(content))
  } catch {
    return 'unreadable: not UTF-8'
  }
}

function littleEndian(bytes: Uint8Array, at: number, end: number): bigint {
  let value = 0n
  for (let i = end - 1; i >= at; i--) value = (value << 8n) | BigInt(bytes[i] ?? 0)
  return value
}

function varint(bytes: Uint8Array, at: number, end: number): { value: bigint; end: number } | null {
  let value = 0n
  for (let i = at; i < end; i++) {
    const byte = bytes[i] ?? 0
    value |= BigInt(byte & 127) << BigInt(7 * (i - at))
    if (byte < 128) return { value: BigInt.asUintN(64, value), end: i + 1 }
  }
  return null
}

function row(bytes: Uint8Array, at: number, end: number, depth: number, meaning: string): Row {
  return { offset: at, depth, hex: toHex(bytes.subarray(at, end)), meaning }
}
