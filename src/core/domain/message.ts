/**
 * The format in which senders write messages, over HTTP and NATS. The schemas validate messages and describe them in the
 * API's documents. `read` turns a body into fields that are within their limits.
 *
 * Three rules cannot be part of a schema. A function below checks each, and the description of the field names it: the
 * longest `ttl` (readTtl), the latest `notBefore` (readNotBefore), and the size and depth of `notification.data` (readData).
 *
 * Unknown fields are ignored and listed in `warnings`, so that a newer client can use an older service.
 */
import Type, { type Static, type TSchema } from 'typebox'
import { CodedError } from '../../../protocol/errors.js'
import { digestOf } from '../../store/idempotency.js'
import { TOPIC_NAME, USER_CHARACTERS_MAX } from '../../store/tenants.js'
import type { MessagePriority, MessageType } from './commands.js'
import type { MessageLimits } from './limits.js'
import { encodeMsgpack } from './msgpack/encode.js'
import { MsgpackError } from './msgpack/error.js'
import { REGISTRATION_ID_CHARS_MAX } from './registration-id.js'
import { type Checker, checkerOf, inWords, Text, TextLike } from './schema.js'

/** A message whose fields are within their limits. Its targets have not been looked up yet. */
export interface SendMessage {
  type: MessageType
  /** As the sender gave them; one entry, except for `devices`. */
  targets: string[]
  ttlMs: number
  /** As the sender gave it, even if it is in the past; null: absent. */
  notBeforeMs: number | null
  priority: MessagePriority
  collapseKey: string
  title: string
  message: string
  /** msgpack map; empty: the message has no attributes. */
  data: Uint8Array
  /** True: the message is validated, and neither stored nor sent. */
  validateOnly: boolean
  /** One sentence for each unknown field. */
  warnings: string[]
}

/**
 * Throws CodedError `invalid_request` or `payload_too_large`, with `details.field`.
 * @param nowMs the time at which the message was sent, which limits `notBefore`.
 */
export type ReadMessage = (body: unknown, nowMs: number) => SendMessage

export interface MessageFormat {
  limits: MessageLimits
  /** A message of any type, for documents. */
  schema: TSchema
  read: ReadMessage
}

/** Most unknown fields listed in `warnings`. */
const WARNINGS_MAX = 16
const FIELD_CHARACTERS_MAX = 64
const EMPTY_PUSH = 'the push is empty: it has no title, no message and no data'

const NOTHING = new Uint8Array(0)

export function messageFormat(limits: MessageLimits): MessageFormat {
  const { common, byType } = schemasOf(limits)
  const checkers = Object.fromEntries(
    Object.entries(byType).map(([type, schema]) => [type, checkerOf(schema)]),
  ) as unknown as Record<MessageType, Checker<TSchema>>
  const checkType = checkerOf(Type.Object({ type: Type.Enum(Object.keys(byType) as MessageType[]) }))
  const knownFields = ['type', 'target', ...Object.keys(common)]
  const knownInside = Object.keys(common.notification.properties)

  const read: ReadMessage = (body, nowMs) => {
    const { type } = checkType(body)
    const fields = checkers[type](body) as MessageFields
    const { target, notification = {} } = fields
    const { title = '', message = '' } = notification
    const data = readData(notification.data, limits)
    const isEmpty = title === '' && message === '' && data.length === 0
    const unknown = [...unknownIn(fields, knownFields, ''), ...unknownIn(notification, knownInside, 'notification.')]
    return {
      type,
      targets: typeof target === 'string' ? [target] : target,
      ttlMs: readTtl(fields.ttl, limits),
      notBeforeMs: readNotBefore(fields.notBefore, nowMs + limits.notBeforeMaxMs),
      priority: fields.priority ?? 'normal',
      collapseKey: fields.collapseKey ?? '',
      title,
      message,
      data,
      validateOnly: fields.validateOnly ?? false,
      // ANS accepts an empty push, and an app may take it as a signal. Most of them are a mistake of the sender.
      warnings: [...unknown.slice(0, WARNINGS_MAX), ...(isEmpty ? [EMPTY_PUSH] : [])],
    }
  }
  return { limits, schema: Type.Union(Object.values(byType), MESSAGE), read }
}

/** A digest of the request. It covers the named targets, not those that exist, since they may change between two attempts. */
export function fingerprintOf(send: SendMessage): string {
  const { type, ttlMs, notBeforeMs, priority, collapseKey, title, message, data, targets } = send
  return digestOf([type, String(ttlMs), String(notBeforeMs), priority, collapseKey, title, message, data, ...targets])
}

// ---- schemas ----------------------------------------------------------------------------------

const TIME = 'a time such as 2026-01-31T12:00:00Z'

const PRIORITIES = ['normal', 'high', 'low'] as const satisfies readonly MessagePriority[]

const MESSAGE = {
  $id: 'Message',
  discriminator: { propertyName: 'type' },
  examples: [
    { type: 'device', target: '<registrationId>', ttl: '1h', notification: { title: 'Hello', message: '...' } },
  ],
  description: 'Fields that are not listed are ignored, and named in `warnings` of the answer.',
}

export const RegistrationId = Text({
  $id: 'RegistrationId',
  minLength: 1,
  maxLength: REGISTRATION_ID_CHARS_MAX,
  description: 'The id of a registration, as the app got it.',
})

export const TopicName = TextLike(TOPIC_NAME, 'the name of a topic: 1 to 64 of A-Z a-z 0-9 _ . -', {
  $id: 'TopicName',
  description: 'The name of a topic.',
})

function schemasOf(limits: MessageLimits) {
  const longest = durationText(limits.ttlMaxMs)
  const notification = Type.Object(
    {
      title: Type.Optional(Text({ maxLength: limits.titleCharactersMax })),
      message: Type.Optional(Text({ maxLength: limits.messageCharactersMax })),
      data: Type.Optional(
        Type.Object(
          {},
          {
            additionalProperties: true,
            description: `Attributes of your own: up to ${limits.dataBytesMax} bytes once encoded as msgpack, nested up to ${limits.dataDepthMax} deep.`,
          },
        ),
      ),
    },
    { $id: 'Notification', description: 'The content that the device gets.' },
  )
  const common = {
    ttl: TextLike(TTL, 'a time such as 2d, 5h30m, 90s or 0s', {
      examples: ['5h30m', '90s'],
      description: `How long the service tries, up to ${longest}: days, hours, minutes and seconds in this order. 0s: only devices that are connected now.`,
    }),
    notification: Type.Optional(notification),
    notBefore: Type.Optional(
      Type.Refine(
        Type.String(
          inWords(TIME, {
            format: 'date-time',
            description: `The message goes out at this time, up to ${durationText(limits.notBeforeMaxMs)} ahead; its ttl counts from then.`,
          }),
        ),
        // The format allows times that Date rejects, such as leap seconds.
        (text) => !Number.isNaN(Date.parse(text.toUpperCase())),
        () => `must be ${TIME}`,
      ),
    ),
    priority: Type.Optional(Type.Enum([...PRIORITIES], { default: 'normal', description: 'A hint for the device.' })),
    collapseKey: Type.Optional(
      Text({
        maxLength: limits.collapseKeyCharactersMax,
        description: 'Of the messages that wait for a registration, only the newest with this key stays.',
      }),
    ),
    validateOnly: Type.Optional(
      Type.Boolean({ default: false, description: 'Check everything; store and send nothing.' }),
    ),
  }
  const of = <T extends MessageType, S extends TSchema>(type: T, target: S, $id: string, description: string) =>
    Type.Object({ type: Type.Literal(type), target, ...common }, { $id, description })
  const devices = Type.Array(RegistrationId, {
    minItems: 1,
    maxItems: limits.devicesMax,
    description: 'The registrations. One that is named twice counts once.',
  })
  const application = Text({ minLength: 1, maxLength: REGISTRATION_ID_CHARS_MAX, description: 'The applicationId.' })
  const user = Text({ minLength: 1, maxLength: USER_CHARACTERS_MAX, description: 'The user, as in user tokens.' })
  const byType = {
    device: of('device', RegistrationId, 'DeviceMessage', 'A message to one app on one device.'),
    devices: of('devices', devices, 'DevicesMessage', 'A message to many registrations, each a target of its own.'),
    topic: of('topic', TopicName, 'TopicMessage', 'A message to the subscribers of a topic.'),
    application: of('application', application, 'ApplicationMessage', 'A message to all registrations of an app.'),
    user: of('user', user, 'UserMessage', 'A message to all registrations of a user of the project.'),
  } satisfies Record<MessageType, TSchema>
  return { common: { ...common, notification }, byType }
}

type Schemas = ReturnType<typeof schemasOf>['byType']
type MessageFields = Static<Schemas['device']> | Static<Schemas['devices']>

// ---- rules that no schema states --------------------------------------------------------------

/** Units d, h, m, s, in this order, each at most once. */
const TTL = /^(?=[0-9])([0-9]{1,9}d)?([0-9]{1,9}h)?([0-9]{1,9}m)?([0-9]{1,9}s)?$/

const UNITS = { d: 86_400_000, h: 3_600_000, m: 60_000, s: 1_000 }

/** Returns the milliseconds of a time to live such as `1d12h` or `90s`; null: the text is not a time to live. */
export function parseTtl(text: string): number | null {
  if (!TTL.test(text)) return null
  let ms = 0
  for (const [, count, unit] of text.matchAll(/([0-9]+)([dhms])/g))
    ms += Number(count) * UNITS[unit as keyof typeof UNITS]
  return ms
}

/** Writes a duration in the largest unit without a fraction, such as `28d`. */
function durationText(ms: number): string {
  const [unit = 's', size] = Object.entries(UNITS).find(([, size]) => ms % size === 0) ?? ['s', UNITS.s]
  return `${ms / (size ?? UNITS.s)}${unit}`
}

function readTtl(text: string, { ttlMaxMs }: MessageLimits): number {
  const ttlMs = parseTtl(text) ?? Number.POSITIVE_INFINITY
  if (ttlMs > ttlMaxMs) throw invalid('ttl', `must be at most ${durationText(ttlMaxMs)}`)
  return ttlMs
}

function readNotBefore(text: string | undefined, latestMs: number): number | null {
  if (text === undefined) return null
  const ms = Date.parse(text.toUpperCase())
  if (ms > latestMs) throw invalid('notBefore', `must be at most ${new Date(latestMs).toISOString()}`)
  return ms
}

function readData(data: object | undefined, limits: MessageLimits): Uint8Array {
  const field = 'notification.data'
  if (data === undefined) return NOTHING
  try {
    return encodeMsgpack(data, { bytesMax: limits.dataBytesMax, depthMax: limits.dataDepthMax })
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

function unknownIn(value: object, known: readonly string[], path: string): string[] {
  return Object.keys(value)
    .filter((field) => !known.includes(field))
    .map((field) => `unknown field ${path}${field.slice(0, FIELD_CHARACTERS_MAX)}`)
}

function invalid(field: string, problem: string): CodedError {
  return new CodedError('invalid_request', `${field} ${problem}`, { field })
}
