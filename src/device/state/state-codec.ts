/**
 * Encodes a change as one line of JSON, and decodes it. Ids are decimal strings, because JSON numbers lose digits; bytes
 * are base64. Decoding checks every field.
 */
import type { Cursor } from '../../../protocol/frame-types.js'
import { parseMessageId } from '../../../protocol/message-id.js'
import { isObject } from '../../type-guards.js'
import type { Change, Group, Identity, StoredNotification } from './state.js'

type Json = Record<string, unknown>

export function encodeChange(change: Change): string {
  switch (change.kind) {
    case 'ticket':
      return JSON.stringify({
        kind: change.kind,
        ticket: change.ticket && { bytes: base64(change.ticket.bytes), untilMs: change.ticket.untilMs },
      })
    case 'message': {
      const m = change.message
      const message = { ...m, id: String(m.id), data: base64(m.data) }
      return JSON.stringify({ ...change, message })
    }
    case 'seen':
    case 'done':
      return JSON.stringify({ ...change, id: String(change.id) })
    case 'cursor':
      return JSON.stringify({
        kind: change.kind,
        cursor: change.cursor && { ...change.cursor, incarnation: String(change.cursor.incarnation) },
      })
    case 'gap':
      return JSON.stringify({ kind: change.kind, mark: { ...change.mark, queue: String(change.mark.queue) } })
    default:
      return JSON.stringify(change)
  }
}

/** Throws TypeError if `encodeChange` cannot have written the line. */
export function decodeChange(line: string): Change {
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch (cause) {
    throw new TypeError('not JSON', { cause })
  }
  const f = object(value)
  switch (f.kind) {
    case 'identity': {
      return { kind: f.kind, identity: identity(object(f.identity)) }
    }
    case 'ticket': {
      if (f.ticket === null) return { kind: f.kind, ticket: null }
      const t = object(f.ticket)
      return { kind: f.kind, ticket: { bytes: bytes(t.bytes), untilMs: number(t.untilMs) } }
    }
    case 'connection':
      return { kind: f.kind, connection: number(f.connection) }
    case 'clock':
      return { kind: f.kind, serverAheadMs: number(f.serverAheadMs) }
    case 'message':
      return {
        kind: f.kind,
        message: notification(object(f.message)),
        forgetAtMs: number(f.forgetAtMs),
        cursorSequence: number(f.cursorSequence),
      }
    case 'seen':
      return {
        kind: f.kind,
        id: id(f.id),
        forgetAtMs: number(f.forgetAtMs),
        cursorSequence: number(f.cursorSequence),
      }
    case 'done':
      return { kind: f.kind, id: id(f.id) }
    case 'cursor':
      return { kind: f.kind, cursor: f.cursor === null ? null : cursor(object(f.cursor)) }
    case 'gap': {
      const m = object(f.mark)
      return { kind: f.kind, mark: { queue: uint64(m.queue), count: number(m.count) } }
    }
    case 'registered': {
      const r = object(f.registration)
      const registration = {
        number: number(r.number),
        application: text(r.application),
        user: text(r.user),
        registrationId: text(r.registrationId),
        // State files from before 0.1 lack this field.
        project: text(r.project ?? ''),
      }
      return { kind: f.kind, registration }
    }
    case 'ended':
      return { kind: f.kind, application: text(f.application), user: text(f.user) }
    case 'topic': {
      const t = object(f.topic)
      const topic = { application: text(t.application), user: text(t.user), topic: text(t.topic) }
      return { kind: f.kind, topic, subscribed: f.subscribed === true }
    }
    case 'subscriptions':
      return { kind: f.kind, version: number(f.version) }
    default:
      throw new TypeError(`unknown kind ${String(f.kind)}`)
  }
}

function identity(f: Json): Identity {
  const identity: Identity = {
    deviceId: text(f.deviceId),
    token: text(f.token),
    expiresAtMs: number(f.expiresAtMs),
    url: text(f.url),
  }
  if (f.core !== undefined) identity.core = text(f.core)
  if (f.renewAtMs !== undefined) identity.renewAtMs = number(f.renewAtMs)
  if (f.isOver === true) identity.isOver = true
  return identity
}

function notification(f: Json): StoredNotification {
  const priority = f.priority
  if (priority !== 'normal' && priority !== 'high' && priority !== 'low') throw new TypeError('priority')
  return {
    id: id(f.id),
    registration: number(f.registration),
    group: f.group === null ? null : group(object(f.group)),
    expiresAtMs: number(f.expiresAtMs),
    priority,
    collapseKey: text(f.collapseKey),
    title: text(f.title),
    message: text(f.message),
    data: bytes(f.data),
  }
}

function group(f: Json): Group {
  const kind = f.kind
  if (kind !== 'app' && kind !== 'topic' && kind !== 'user') throw new TypeError('kind of group')
  // State files of version 0.1 do not have the registrations.
  const registrations = Array.isArray(f.registrations) ? f.registrations.map(number) : []
  return { kind, name: text(f.name), project: text(f.project), sequence: number(f.sequence), registrations }
}

function cursor(f: Json): Cursor {
  return {
    incarnation: uint64(f.incarnation),
    sequence: number(f.sequence),
    subscriptions: number(f.subscriptions),
  }
}

function base64(value: Uint8Array): string {
  return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('base64')
}

function object(value: unknown): Json {
  if (!isObject(value)) throw new TypeError('not an object')
  return value
}

function text(value: unknown): string {
  if (typeof value !== 'string') throw new TypeError('not a string')
  return value
}

function number(value: unknown): number {
  if (typeof value !== 'number' || !Number.isFinite(value)) throw new TypeError('not a number')
  return value
}

function bytes(value: unknown): Uint8Array {
  return new Uint8Array(Buffer.from(text(value), 'base64'))
}

function id(value: unknown): bigint {
  const parsed = parseMessageId(text(value))
  if (parsed === null) throw new TypeError('not a message id')
  return parsed
}

/** Incarnations and names of queues are any 64 bits, including zero. */
function uint64(value: unknown): bigint {
  const digits = text(value)
  if (!/^[0-9]{1,20}$/.test(digits)) throw new TypeError('not an unsigned integer')
  return BigInt(digits)
}
