/**
 * Decodes bodies of frames into values, with the code generated from borealis.proto.
 *
 * The work is bounded by the frame: the reader passes over unknown fields and does not keep them
 * (Reader.discardUnknown), stops at 100 levels of nesting, and compares every length with the bytes that are left.
 */
import protobuf from 'protobufjs/minimal.js'
import { decodeAckIds } from './ack.js'
import type { FrameName } from './frame.js'
import {
  type ClientInfo,
  type Credential,
  type Cursor,
  type Frame,
  GAP_REASONS,
  type GapMark,
  GOAWAY_REASONS,
  type GroupTarget,
  PRIORITIES,
} from './frame-types.js'
import { borealis } from './generated/frames.js'
import { toBigint, toSafeNumber } from './int64.js'

const v1 = borealis.v1

const PING: Frame = Object.freeze({ type: 'PING' })
const PONG: Frame = Object.freeze({ type: 'PONG' })
const BYE: Frame = Object.freeze({ type: 'BYE' })

/** Throws an Error of protobufjs, or a RangeError of int64.ts, if the body is not a message of this type. */
export function decodeBody(name: FrameName, body: Uint8Array): Frame {
  return decoders[name](body)
}

const decoders: Record<FrameName, (body: Uint8Array) => Frame> = {
  HELLO: (body) => {
    const m = v1.Hello.decode(reader(body))
    return {
      type: 'HELLO',
      version: m.version,
      credential: credential(m),
      connection: toSafeNumber(m.connection, 'connection'),
      client: clientInfo(m.client),
      cursor: cursor(m.cursor),
      gap: gapMark(m.gap),
    }
  },
  ACK: (body) => ({ type: 'ACK', ids: decodeAckIds(body) }),
  REGISTER: (body) => {
    const m = v1.Register.decode(reader(body))
    return { type: 'REGISTER', request: m.request, application: m.application, userToken: m.userToken }
  },
  UNREGISTER: (body) => {
    const m = v1.Unregister.decode(reader(body))
    return { type: 'UNREGISTER', request: m.request, registration: m.registration }
  },
  SUBSCRIBE: (body) => {
    const m = v1.Subscribe.decode(reader(body))
    return { type: 'SUBSCRIBE', request: m.request, registration: m.registration, topic: m.topic }
  },
  UNSUBSCRIBE: (body) => {
    const m = v1.Unsubscribe.decode(reader(body))
    return { type: 'UNSUBSCRIBE', request: m.request, registration: m.registration, topic: m.topic }
  },
  PING: (body) => {
    passOver(body)
    return PING
  },
  BYE: (body) => {
    passOver(body)
    return BYE
  },
  WELCOME: (body) => {
    const m = v1.Welcome.decode(reader(body))
    return {
      type: 'WELCOME',
      serverTimeMs: toSafeNumber(m.serverTimeMs, 'server_time_ms'),
      keepaliveSeconds: m.keepaliveSeconds,
      limits: {
        frameBytesMax: m.limits?.frameBytesMax ?? 0,
        window: m.limits?.window ?? 0,
        registrationsMax: m.limits?.registrationsMax ?? 0,
        topicsMax: m.limits?.topicsMax ?? 0,
      },
      subscriptions: m.subscriptions,
      ticket: owned(m.ticket),
      ticketSeconds: m.ticketSeconds,
    }
  },
  NOTIFY: (body) => {
    const m = v1.Notify.decode(reader(body))
    return { type: 'NOTIFY', id: toBigint(m.id), registration: m.registration, ...content(m) }
  },
  NOTIFY_GROUP: (body) => {
    const m = v1.NotifyGroup.decode(reader(body))
    return {
      type: 'NOTIFY_GROUP',
      id: toBigint(m.id),
      sequence: toSafeNumber(m.sequence, 'sequence'),
      target: groupTarget(m),
      project: m.project,
      registrations: m.registrations,
      ...content(m),
    }
  },
  CAUGHT_UP: (body) => ({ type: 'CAUGHT_UP', cursor: cursor(v1.CaughtUp.decode(reader(body)).cursor) }),
  REGISTERED: (body) => {
    const m = v1.Registered.decode(reader(body))
    return {
      type: 'REGISTERED',
      request: m.request,
      registration: m.registration,
      registrationId: m.registrationId,
      subscriptions: m.subscriptions,
      project: m.project,
    }
  },
  DONE: (body) => {
    const m = v1.Done.decode(reader(body))
    return { type: 'DONE', request: m.request, subscriptions: m.subscriptions }
  },
  GAP: (body) => {
    const m = v1.Gap.decode(reader(body))
    return { type: 'GAP', count: m.count, reason: GAP_REASONS[m.reason] ?? 'unspecified', mark: gapMark(m.mark) }
  },
  GOAWAY: (body) => {
    const m = v1.Goaway.decode(reader(body))
    return {
      type: 'GOAWAY',
      reason: GOAWAY_REASONS[m.reason] ?? 'shutdown',
      afterMs: m.afterMs,
      jitterMs: m.jitterMs,
      url: m.url,
    }
  },
  ERROR: (body) => {
    const m = v1.Error.decode(reader(body))
    return {
      type: 'ERROR',
      code: m.code,
      detail: m.detail,
      request: m.request,
      retryAfterMs: m.retryAfterMs,
      connection: toSafeNumber(m.connection, 'connection'),
    }
  },
  PONG: (body) => {
    passOver(body)
    return PONG
  },
}

/** A reader that does not keep unknown fields. Set here, because the default of the library is global state. */
function reader(body: Uint8Array): protobuf.Reader {
  const made = new protobuf.Reader(body)
  made.discardUnknown = true
  return made
}

/**
 * Checks the body of a type that has no fields today, and may have some in a later version. The generated code would
 * not do: for empty messages protobufjs 8.8 passes the whole tag on as field number, refuses balanced groups and
 * accepts field number 0.
 */
function passOver(body: Uint8Array): void {
  if (body.length === 0) return
  const from = reader(body)
  while (from.pos < from.len) {
    const tag = from.tag()
    from.skipType(tag & 7, 0, tag >>> 3)
  }
}

/** A copy. The generated code gives views of the message, whose memory the socket reuses; a frame owns its bytes. */
function owned(view: Uint8Array): Uint8Array {
  return Uint8Array.from(view)
}

function credential(m: borealis.v1.Hello): Credential | null {
  if (m.credential === 'token') return { kind: 'token', token: m.token ?? '' }
  if (m.credential === 'ticket') return { kind: 'ticket', ticket: owned(m.ticket ?? new Uint8Array()) }
  return null
}

function clientInfo(m: borealis.v1.ClientInfo.$Properties | null | undefined): ClientInfo | null {
  return m ? { name: m.name ?? '', version: m.version ?? '', platform: m.platform ?? '' } : null
}

function cursor(m: borealis.v1.Cursor.$Properties | null | undefined): Cursor | null {
  if (!m) return null
  return {
    incarnation: toBigint(m.incarnation ?? 0),
    sequence: toSafeNumber(m.sequence ?? 0, 'sequence'),
    subscriptions: m.subscriptions ?? 0,
  }
}

function gapMark(m: borealis.v1.GapMark.$Properties | null | undefined): GapMark | null {
  return m ? { queue: toBigint(m.queue ?? 0), count: m.count ?? 0 } : null
}

function groupTarget(m: borealis.v1.NotifyGroup): GroupTarget | null {
  if (m.target === 'application') return { kind: 'app', name: m.application ?? '' }
  if (m.target === 'topic') return { kind: 'topic', name: m.topic ?? '' }
  if (m.target === 'user') return { kind: 'user', name: m.user ?? '' }
  return null
}

function content(m: borealis.v1.Notify | borealis.v1.NotifyGroup) {
  return {
    expiresAtSeconds: m.expiresAtSeconds,
    priority: PRIORITIES[m.priority] ?? 'normal',
    collapseKey: m.collapseKey,
    title: m.title,
    message: m.message,
    data: owned(m.data),
  }
}
