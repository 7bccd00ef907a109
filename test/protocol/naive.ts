/**
 * A second codec, the oracle of the fast one: written from PROTOCOL.md alone, as plainly as possible, and without any
 * code of protocol/. It works on the JSON form of the vectors (ids as decimal strings, bytes as hex) and on arrays of
 * numbers.
 */

export type Json = string | number | boolean | null | Json[] | { [key: string]: Json }
export type JsonFrame = { type: string; [key: string]: Json }
export interface NaiveResult {
  frames: JsonFrame[]
  error: string | null
  /** The offset of the faulty frame. 0 without a fault. */
  offset: number
}

const types: Record<number, string> = {
  1: 'HELLO',
  2: 'ACK',
  3: 'REGISTER',
  4: 'UNREGISTER',
  5: 'SUBSCRIBE',
  6: 'UNSUBSCRIBE',
  7: 'PING',
  8: 'BYE',
  129: 'WELCOME',
  130: 'NOTIFY',
  131: 'NOTIFY_GROUP',
  132: 'CAUGHT_UP',
  133: 'REGISTERED',
  134: 'DONE',
  135: 'GAP',
  136: 'GOAWAY',
  137: 'ERROR',
  138: 'PONG',
}

class Bad extends Error {}

// ---- reading ----------------------------------------------------------------------------------

export function naiveDecode(bytes: number[], from: 'device' | 'server', frameBytesMax: number): NaiveResult {
  const frames: JsonFrame[] = []
  if (bytes.length === 0) return { frames, error: 'protocol_error', offset: 0 }
  let at = 0
  while (at < bytes.length) {
    const offset = at
    const wrong = (error: string) => ({ frames, error, offset })
    const prefix: number[] = []
    for (;;) {
      if (at === bytes.length) return wrong('protocol_error')
      const byte = get(bytes, at++)
      prefix.push(byte)
      if (byte < 128) break
      if (prefix.length === 3) return wrong('frame_too_large')
    }
    const length = Number(varintValue(prefix))
    if (prefix.length > 1 && prefix.at(-1) === 0) return wrong('protocol_error')
    if (length === 0) return wrong('protocol_error')
    if (length > frameBytesMax) return wrong('frame_too_large')
    if (length > bytes.length - at) return wrong('protocol_error')
    const code = get(bytes, at)
    const body = bytes.slice(at + 1, at + length)
    at += length
    const type = types[code]
    if (type === undefined) {
      frames.push({ type: 'UNKNOWN', code, bodyBytes: body.length })
      continue
    }
    if ((code < 128 ? 'device' : 'server') !== from) return wrong('unexpected_frame')
    try {
      frames.push(readFrame(type, body))
    } catch (error) {
      if (!(error instanceof Bad)) throw error
      return wrong('protocol_error')
    }
  }
  return { frames, error: null, offset: 0 }
}

/** A field as it stands in the bytes: wire type 2 has `content`, the other types have `value`. */
interface Field {
  number: number
  wire: number
  value: bigint
  content: number[]
}

/** Reads the fields of a message. Groups are checked and left out. */
function readFields(bytes: number[], level: number): Field[] {
  const fields: Field[] = []
  let at = 0
  while (at < bytes.length) at = readField(bytes, at, level, (field) => fields.push(field)).next
  return fields
}

function readField(bytes: number[], start: number, level: number, put: (field: Field) => void) {
  const tag = readVarint(bytes, start, 5)
  if (tag.value > 0xffffffffn) throw new Bad('tag of more than 32 bits')
  const number = Number(tag.value >> 3n)
  const wire = Number(tag.value & 7n)
  if (number === 0) throw new Bad('field 0')
  if (level > 100) throw new Bad('too deep')
  let at = tag.next
  if (wire === 0) {
    // Any length is allowed here. Message.varint() checks the length of a known field.
    const varint = readVarint(bytes, at, Number.POSITIVE_INFINITY)
    put({ number, wire, value: varint.value, content: bytes.slice(at, varint.next) })
    return { next: varint.next, number, wire }
  }
  if (wire === 1 || wire === 5) {
    const size = wire === 1 ? 8 : 4
    if (at + size > bytes.length) throw new Bad('ends inside a fixed field')
    put({ number, wire, value: littleEndian(bytes.slice(at, at + size)), content: [] })
    return { next: at + size, number, wire }
  }
  if (wire === 2) {
    const length = readVarint(bytes, at, 5)
    if (length.value > BigInt(bytes.length - length.next)) throw new Bad('ends inside a field')
    const end = length.next + Number(length.value)
    put({ number, wire, value: 0n, content: bytes.slice(length.next, end) })
    return { next: end, number, wire }
  }
  if (wire === 3) {
    for (;;) {
      if (at >= bytes.length) throw new Bad('group without end')
      const peek = readVarint(bytes, at, 5)
      if ((peek.value & 7n) === 4n) {
        if (peek.value > 0xffffffffn || Number(peek.value >> 3n) !== number) throw new Bad('end of another group')
        return { next: peek.next, number, wire }
      }
      at = readField(bytes, at, level + 1, () => undefined).next
    }
  }
  throw new Bad(`wire type ${wire}`)
}

function readVarint(bytes: number[], start: number, bytesMax: number): { value: bigint; next: number } {
  const all: number[] = []
  for (let at = start; at < bytes.length; at++) {
    all.push(get(bytes, at))
    if (all.length > bytesMax) throw new Bad('varint too long')
    if (get(bytes, at) < 128) return { value: varintValue(all), next: at + 1 }
  }
  throw new Bad('ends inside a varint')
}

function varintValue(bytes: number[]): bigint {
  let value = 0n
  bytes.slice(0, 10).forEach((byte, i) => {
    value += BigInt(byte % 128) * 128n ** BigInt(i)
  })
  return value % 2n ** 64n
}

function littleEndian(bytes: number[]): bigint {
  return bytes.reduceRight((value, byte) => value * 256n + BigInt(byte), 0n)
}

function get(bytes: number[], at: number): number {
  const byte = bytes[at]
  if (byte === undefined) throw new Bad('past the end')
  return byte
}

/** One message, with an accessor for each kind of field. The last occurrence of a field counts. */
class Message {
  private readonly fields: Field[]
  constructor(
    bytes: number[],
    private readonly level = 0,
  ) {
    this.fields = readFields(bytes, level)
  }

  private all(number: number, wire: number): Field[] {
    return this.fields.filter((field) => field.number === number && field.wire === wire)
  }

  private varint(number: number): bigint {
    const found = this.all(number, 0)
    for (const field of found) if (field.content.length > 10) throw new Bad('varint too long')
    return found.at(-1)?.value ?? 0n
  }

  u32(number: number): number {
    return Number(this.varint(number) % 2n ** 32n)
  }

  u64(number: number): number {
    const value = this.varint(number)
    if (value >= 2n ** 53n) throw new Bad('over 2^53-1')
    return Number(value)
  }

  f32(number: number): number {
    return Number(this.all(number, 5).at(-1)?.value ?? 0n)
  }

  f64(number: number): string {
    return String(this.all(number, 1).at(-1)?.value ?? 0n)
  }

  /** Each occurrence must be UTF-8, also those that do not count. */
  text(number: number): string {
    let value = ''
    for (const field of this.all(number, 2)) {
      const buffer = Buffer.from(field.content)
      value = buffer.toString('utf8')
      if (!Buffer.from(value, 'utf8').equals(buffer)) throw new Bad('not UTF-8')
    }
    return value
  }

  hex(number: number): string {
    return Buffer.from(this.all(number, 2).at(-1)?.content ?? []).toString('hex')
  }

  choice(number: number, names: string[]): string {
    return names[this.u32(number)] ?? names[0] ?? ''
  }

  /** Occurrences of a message are merged: the same as reading their joined bytes. */
  inner(number: number): Message | null {
    const found = this.all(number, 2)
    // Each must be whole by itself: a field may not begin in one and end in the next.
    for (const field of found) readFields(field.content, this.level + 1)
    return found.length > 0
      ? new Message(
          found.flatMap((field) => field.content),
          this.level + 1,
        )
      : null
  }

  /** The number of the last field among these, as string or bytes. 0 if there is none. */
  lastOf(numbers: number[]): number {
    return this.fields.filter((field) => field.wire === 2 && numbers.includes(field.number)).at(-1)?.number ?? 0
  }

  /** Of 32 bits each, packed or not. */
  numbers(number: number): number[] {
    return this.fields
      .filter((field) => field.number === number)
      .flatMap((field) => {
        if (field.wire === 0) {
          if (field.content.length > 10) throw new Bad('varint too long')
          return [Number(field.value % 2n ** 32n)]
        }
        if (field.wire !== 2) return []
        const numbers: number[] = []
        for (let at = 0; at < field.content.length; ) {
          const { value, next } = readVarint(field.content, at, 10)
          numbers.push(Number(value % 2n ** 32n))
          at = next
        }
        return numbers
      })
  }

  ids(number: number): string[] {
    return this.fields
      .filter((field) => field.number === number)
      .flatMap((field) => {
        if (field.wire === 1) return [String(field.value)]
        if (field.wire !== 2) return []
        if (field.content.length % 8 !== 0) throw new Bad('not whole ids')
        const ids: string[] = []
        for (let at = 0; at < field.content.length; at += 8) {
          ids.push(String(littleEndian(field.content.slice(at, at + 8))))
        }
        return ids
      })
  }
}

function readFrame(type: string, body: number[]): JsonFrame {
  const m = new Message(body)
  const request = () => ({ request: m.u32(1) })
  const cursor = (c: Message | null): Json =>
    c && { incarnation: c.f64(1), sequence: c.u64(2), subscriptions: c.u32(3) }
  const mark = (g: Message | null): Json => g && { queue: g.f64(1), count: g.u32(2) }
  switch (type) {
    case 'HELLO': {
      const token = m.text(2)
      const which = m.lastOf([2, 3])
      const client = m.inner(5)
      return {
        type,
        version: m.u32(1),
        credential: which === 2 ? { kind: 'token', token } : which === 3 ? { kind: 'ticket', ticket: m.hex(3) } : null,
        connection: m.u64(4),
        client: client && { name: client.text(1), version: client.text(2), platform: client.text(3) },
        cursor: cursor(m.inner(6)),
        gap: mark(m.inner(7)),
      }
    }
    case 'ACK':
      return { type, ids: m.ids(1) }
    case 'REGISTER':
      return { type, ...request(), application: m.text(2), userToken: m.text(3) }
    case 'UNREGISTER':
      return { type, ...request(), registration: m.u32(2) }
    case 'SUBSCRIBE':
    case 'UNSUBSCRIBE':
      return { type, ...request(), registration: m.u32(2), topic: m.text(3) }
    case 'WELCOME': {
      const limits = m.inner(3)
      return {
        type,
        serverTimeMs: m.u64(1),
        keepaliveSeconds: m.u32(2),
        limits: {
          frameBytesMax: limits?.u32(1) ?? 0,
          window: limits?.u32(2) ?? 0,
          registrationsMax: limits?.u32(3) ?? 0,
          topicsMax: limits?.u32(4) ?? 0,
        },
        subscriptions: m.u32(4),
        ticket: m.hex(5),
        ticketSeconds: m.u32(6),
      }
    }
    case 'NOTIFY':
      return {
        type,
        id: m.f64(1),
        registration: m.u32(2),
        expiresAtSeconds: m.f32(3),
        priority: m.choice(4, ['normal', 'high', 'low']),
        collapseKey: m.text(5),
        title: m.text(6),
        message: m.text(7),
        data: m.hex(8),
      }
    case 'NOTIFY_GROUP': {
      const names = [m.text(5), m.text(6), m.text(7)]
      const which = m.lastOf([5, 6, 7])
      return {
        type,
        id: m.f64(1),
        sequence: m.u64(2),
        target: which === 0 ? null : { kind: ['app', 'topic', 'user'][which - 5] ?? '', name: names[which - 5] ?? '' },
        project: m.text(8),
        registrations: m.numbers(13),
        expiresAtSeconds: m.f32(3),
        priority: m.choice(4, ['normal', 'high', 'low']),
        collapseKey: m.text(9),
        title: m.text(10),
        message: m.text(11),
        data: m.hex(12),
      }
    }
    case 'CAUGHT_UP':
      return { type, cursor: cursor(m.inner(1)) }
    case 'REGISTERED':
      return {
        type,
        ...request(),
        registration: m.u32(2),
        registrationId: m.text(3),
        subscriptions: m.u32(4),
        project: m.text(5),
      }
    case 'DONE':
      return { type, ...request(), subscriptions: m.u32(2) }
    case 'GAP': {
      const reason = m.choice(2, ['unspecified', 'queue_overflow', 'log_reset', 'log_truncated'])
      return { type, count: m.u32(1), reason, mark: mark(m.inner(3)) }
    }
    case 'GOAWAY': {
      const reason = m.choice(1, ['shutdown', 'rebalance', 'upgrade'])
      return { type, reason, afterMs: m.u32(2), jitterMs: m.u32(3), url: m.text(4) }
    }
    case 'ERROR':
      return {
        type,
        code: m.text(1),
        detail: m.text(2),
        request: m.u32(3),
        retryAfterMs: m.u32(4),
        connection: m.u64(5),
      }
    default:
      return { type }
  }
}
