/**
 * From the body of a message, as JSON or msgpack gave it, to a command whose every field is of its type and inside its
 * limits. HTTP and NATS ingress both come through here.
 *
 * Fields that are unknown are ignored and listed in `warnings`, so that a newer client can talk to an older service.
 */
import { CodedError } from '../../../protocol/errors.js'
import type { MessagePriority, MessageType } from './commands.js'
import type { MessageLimits } from './limits.js'
import { encodeMsgpack } from './msgpack/encode.js'
import { MsgpackError } from './msgpack/error.js'
import { parseTtl } from './ttl.js'

export interface SendMessage {
  type: MessageType
  /** As given; one entry, except for `devices`. */
  targets: string[]
  ttlMs: number
  /** As given, also where it is past; null: none. */
  notBeforeMs: number | null
  priority: MessagePriority
  collapseKey: string
  title: string
  message: string
  /** msgpack map; empty: none. */
  data: Uint8Array
  /** Check, and neither store nor send. */
  validateOnly: boolean
  /** Unknown fields, by path. */
  warnings: string[]
}

const TYPES: readonly MessageType[] = ['device', 'devices', 'topic', 'application', 'user']
const PRIORITIES: readonly MessagePriority[] = ['normal', 'high', 'low']

const FIELDS = ['target', 'type', 'ttl', 'priority', 'collapseKey', 'validateOnly', 'notBefore', 'notification']
const NOTIFICATION_FIELDS = ['title', 'message', 'data']

/** A target is a registrationId at most; nothing longer is worth a look. */
const TARGET_CHARACTERS_MAX = 512
/** Most unknown fields that are listed. */
const WARNINGS_MAX = 16

const NOTHING = new Uint8Array(0)

/** Throws CodedError `invalid_request` or `payload_too_large`, with `details.field`. */
export function validateMessage(body: unknown, limits: MessageLimits, nowMs: number): SendMessage {
  const fields = objectAt(body, '')
  const notification = fields.notification === undefined ? {} : objectAt(fields.notification, 'notification')
  const type = choiceAt(fields.type, 'type', TYPES)
  return {
    type,
    targets: targetsAt(fields.target, type, limits),
    ttlMs: ttlAt(fields.ttl, limits),
    notBeforeMs: timeAt(fields.notBefore, 'notBefore', nowMs + limits.notBeforeMaxMs),
    priority: fields.priority === undefined ? 'normal' : choiceAt(fields.priority, 'priority', PRIORITIES),
    collapseKey: textAt(fields.collapseKey, 'collapseKey', limits.collapseKeyCharactersMax),
    title: textAt(notification.title, 'notification.title', limits.titleCharactersMax),
    message: textAt(notification.message, 'notification.message', limits.messageCharactersMax),
    data: dataAt(notification.data, limits),
    validateOnly: flagAt(fields.validateOnly, 'validateOnly'),
    warnings: [
      ...unknownFields(fields, FIELDS, ''),
      ...unknownFields(notification, NOTIFICATION_FIELDS, 'notification.'),
    ].slice(0, WARNINGS_MAX),
  }
}

function objectAt(value: unknown, field: string): Record<string, unknown> {
  if (isMap(value)) return value
  throw invalid(field, value === undefined ? 'is required' : 'must be an object')
}

function choiceAt<T extends string>(value: unknown, field: string, choices: readonly T[]): T {
  const choice = choices.find((c) => c === value)
  if (choice) return choice
  throw invalid(field, value === undefined ? 'is required' : `must be one of ${choices.join(', ')}`)
}

function flagAt(value: unknown, field: string): boolean {
  if (value === undefined || typeof value === 'boolean') return value === true
  throw invalid(field, 'must be true or false')
}

/** Optional text: empty where absent. */
function textAt(value: unknown, field: string, charactersMax: number): string {
  if (value === undefined) return ''
  if (typeof value !== 'string') throw invalid(field, 'must be a string')
  // More code units than this cannot be few enough characters: nothing is counted.
  if (value.length > 2 * charactersMax || characters(value) > charactersMax) {
    throw invalid(field, `must have at most ${charactersMax} characters`)
  }
  return wellFormed(value, field)
}

function targetsAt(value: unknown, type: MessageType, limits: MessageLimits): string[] {
  if (type !== 'devices') return [targetAt(value, 'target')]
  if (!Array.isArray(value)) throw invalid('target', 'must be a list of registrationIds for type devices')
  if (value.length === 0 || value.length > limits.devicesMax) {
    throw invalid('target', `must have 1 to ${limits.devicesMax} entries`)
  }
  return value.map((entry, index) => targetAt(entry, `target[${index}]`))
}

function targetAt(value: unknown, field: string): string {
  if (value === undefined) throw invalid(field, 'is required')
  if (typeof value !== 'string' || value === '') throw invalid(field, 'must be a string that is not empty')
  if (value.length > TARGET_CHARACTERS_MAX)
    throw invalid(field, `must have at most ${TARGET_CHARACTERS_MAX} characters`)
  return wellFormed(value, field)
}

function ttlAt(value: unknown, limits: MessageLimits): number {
  if (value === undefined) throw invalid('ttl', 'is required')
  const ttlMs = typeof value === 'string' ? parseTtl(value) : null
  if (ttlMs === null) throw invalid('ttl', 'must be a time such as 5h30m, 90s or 0s')
  if (ttlMs > limits.ttlMaxMs) throw invalid('ttl', `must be at most ${limits.ttlMaxMs / 3_600_000}h`)
  return ttlMs
}

const RFC_3339 = /^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:[Zz]|[+-]\d{2}:\d{2})$/

/** Unix milliseconds; null where there is none. */
function timeAt(value: unknown, field: string, latestMs: number): number | null {
  if (value === undefined) return null
  const ms = typeof value === 'string' && RFC_3339.test(value) ? Date.parse(value.toUpperCase()) : Number.NaN
  if (Number.isNaN(ms)) throw invalid(field, 'must be a time such as 2026-01-31T12:00:00Z')
  if (ms > latestMs) throw invalid(field, `must be at most ${new Date(latestMs).toISOString()}`)
  return ms
}

function dataAt(value: unknown, limits: MessageLimits): Uint8Array {
  const field = 'notification.data'
  if (value === undefined) return NOTHING
  try {
    return encodeMsgpack(objectAt(value, field), { bytesMax: limits.dataBytesMax, depthMax: limits.dataDepthMax })
  } catch (error) {
    if (!(error instanceof MsgpackError)) throw error
    if (error.problem === 'too_large') {
      throw new CodedError('payload_too_large', `${field} must encode to at most ${limits.dataBytesMax} bytes`, {
        field,
        bytesMax: limits.dataBytesMax,
      })
    }
    if (error.problem === 'too_deep') throw invalid(field, `must be nested at most ${limits.dataDepthMax} deep`)
    throw invalid(field, error.message)
  }
}

function unknownFields(value: Record<string, unknown>, known: readonly string[], path: string): string[] {
  return Object.keys(value)
    .filter((field) => !known.includes(field))
    .map((field) => `unknown field ${path}${field.slice(0, 64)}`)
}

/** Code points: what a reader would count, but for combining marks. */
function characters(text: string): number {
  let count = 0
  for (const _ of text) count++
  return count
}

const LONE_SURROGATE = /\p{Surrogate}/u

function wellFormed(text: string, field: string): string {
  if (LONE_SURROGATE.test(text)) throw invalid(field, 'must be well-formed Unicode')
  return text
}

function isMap(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}

function invalid(field: string, problem: string): CodedError {
  return new CodedError('invalid_request', `${field || 'the body'} ${problem}`, { field })
}
