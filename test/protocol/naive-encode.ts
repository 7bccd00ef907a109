/** The encoder of the naive codec: from the JSON form to bytes, each field as PROTOCOL.md requires of a sender. */
import type { Json, JsonFrame } from './naive.js'

type Part = number[]
type Fields = { [key: string]: Json }

const writers: Record<string, { code: number; body: (f: JsonFrame) => Part[] }> = {
  HELLO: {
    code: 0x01,
    body: (f) => {
      const credential = f.credential as Fields | null
      return [
        num(1, f.version),
        credential?.kind === 'token' ? textAlways(2, credential.token) : [],
        credential?.kind === 'ticket' ? delimited(3, hex(credential.ticket)) : [],
        num(4, f.connection),
        message(5, f.client, (c) => [text(1, c.name), text(2, c.version), text(3, c.platform)]),
        message(6, f.cursor, cursor),
        message(7, f.gap, mark),
      ]
    },
  },
  ACK: {
    code: 0x02,
    body: (f) => {
      const ids = f.ids as string[]
      return [
        ids.length > 0
          ? delimited(
              1,
              ids.flatMap((id) => fixed(BigInt(id), 8)),
            )
          : [],
      ]
    },
  },
  REGISTER: { code: 0x03, body: (f) => [num(1, f.request), text(2, f.application), text(3, f.userToken)] },
  UNREGISTER: { code: 0x04, body: (f) => [num(1, f.request), num(2, f.registration)] },
  SUBSCRIBE: { code: 0x05, body: (f) => [num(1, f.request), num(2, f.registration), text(3, f.topic)] },
  UNSUBSCRIBE: { code: 0x06, body: (f) => [num(1, f.request), num(2, f.registration), text(3, f.topic)] },
  PING: { code: 0x07, body: () => [] },
  BYE: { code: 0x08, body: () => [] },
  WELCOME: {
    code: 0x81,
    body: (f) => [
      num(1, f.serverTimeMs),
      num(2, f.keepaliveSeconds),
      message(3, f.limits, (l) => [
        num(1, l.frameBytesMax),
        num(2, l.window),
        num(3, l.registrationsMax),
        num(4, l.topicsMax),
      ]),
      num(4, f.subscriptions),
      bytes(5, f.ticket),
      num(6, f.ticketSeconds),
    ],
  },
  NOTIFY: {
    code: 0x82,
    body: (f) => [
      id(1, f.id),
      num(2, f.registration),
      time(3, f.expiresAtSeconds),
      choice(4, f.priority, ['normal', 'high', 'low']),
      text(5, f.collapseKey),
      text(6, f.title),
      text(7, f.message),
      bytes(8, f.data),
    ],
  },
  NOTIFY_GROUP: {
    code: 0x83,
    body: (f) => {
      const target = f.target as Fields | null
      const number = target === null ? 0 : 5 + ['app', 'topic', 'user'].indexOf(String(target.kind))
      return [
        id(1, f.id),
        time(3, f.expiresAtSeconds),
        choice(4, f.priority, ['normal', 'high', 'low']),
        target === null ? [] : textAlways(number, target.name),
        text(8, f.project),
        text(9, f.collapseKey),
        text(10, f.title),
        text(11, f.message),
        bytes(12, f.data),
        // The last fields: the server appends them to a body that was encoded before they were known.
        packed(13, f.registrations),
        num(2, f.sequence),
      ]
    },
  },
  CAUGHT_UP: { code: 0x84, body: (f) => [message(1, f.cursor, cursor)] },
  REGISTERED: {
    code: 0x85,
    body: (f) => [
      num(1, f.request),
      num(2, f.registration),
      text(3, f.registrationId),
      num(4, f.subscriptions),
      text(5, f.project),
    ],
  },
  DONE: { code: 0x86, body: (f) => [num(1, f.request), num(2, f.subscriptions)] },
  GAP: {
    code: 0x87,
    body: (f) => [
      num(1, f.count),
      choice(2, f.reason, ['unspecified', 'queue_overflow', 'log_reset', 'log_truncated']),
      message(3, f.mark, mark),
    ],
  },
  GOAWAY: {
    code: 0x88,
    body: (f) => [
      choice(1, f.reason, ['shutdown', 'rebalance', 'upgrade']),
      num(2, f.afterMs),
      num(3, f.jitterMs),
      text(4, f.url),
    ],
  },
  ERROR: {
    code: 0x89,
    body: (f) => [text(1, f.code), text(2, f.detail), num(3, f.request), num(4, f.retryAfterMs), num(5, f.connection)],
  },
  PONG: { code: 0x8a, body: () => [] },
}

export function naiveEncode(frame: JsonFrame): number[] {
  const writer = writers[frame.type]
  if (!writer) throw new Error(`no such type: ${frame.type}`)
  const body = writer.body(frame).flat()
  return [...varint(BigInt(1 + body.length)), writer.code, ...body]
}

export function varint(value: bigint): number[] {
  return value < 128n ? [Number(value)] : [Number(value % 128n) + 128, ...varint(value / 128n)]
}

function fixed(value: bigint, size: number): number[] {
  return size === 0 ? [] : [Number(value % 256n), ...fixed(value / 256n, size - 1)]
}

const tag = (number: number, wire: number): Part => varint(BigInt(number * 8 + wire))

function num(number: number, value: Json | undefined): Part {
  return value ? [...tag(number, 0), ...varint(BigInt(value as number))] : []
}

function id(number: number, value: Json | undefined): Part {
  return value === '0' ? [] : [...tag(number, 1), ...fixed(BigInt(value as string), 8)]
}

function time(number: number, value: Json | undefined): Part {
  return value ? [...tag(number, 5), ...fixed(BigInt(value as number), 4)] : []
}

function packed(number: number, value: Json | undefined): Part {
  const numbers = value as number[]
  if (numbers.length === 0) return []
  return delimited(
    number,
    numbers.flatMap((one) => varint(BigInt(one))),
  )
}

function choice(number: number, value: Json | undefined, names: string[]): Part {
  return num(number, names.indexOf(String(value)))
}

function delimited(number: number, content: Part): Part {
  return [...tag(number, 2), ...varint(BigInt(content.length)), ...content]
}

function textAlways(number: number, value: Json | undefined): Part {
  return delimited(number, [...Buffer.from(String(value), 'utf8')])
}

function text(number: number, value: Json | undefined): Part {
  return value === '' ? [] : textAlways(number, value)
}

function hex(value: Json | undefined): Part {
  return [...Buffer.from(String(value), 'hex')]
}

function bytes(number: number, value: Json | undefined): Part {
  return value === '' ? [] : delimited(number, hex(value))
}

function message(number: number, value: Json | undefined, fields: (inner: Fields) => Part[]): Part {
  return value === null ? [] : delimited(number, fields(value as Fields).flat())
}

const cursor = (c: Fields): Part[] => [id(1, c.incarnation), num(2, c.sequence), num(3, c.subscriptions)]
const mark = (g: Fields): Part[] => [id(1, g.queue), num(2, g.count)]
