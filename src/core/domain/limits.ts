/** Limits of a message and of a device. HTTP, NATS ingress and device requests share them. */
import Type, { type Static } from 'typebox'

const MINUTE_MS = 60_000
const DAY_MS = 24 * 60 * MINUTE_MS

export const MessageLimits = Type.Object(
  {
    titleCharactersMax: Type.Integer({
      default: 512,
      minimum: 1,
      description: 'Longest title, in Unicode characters.',
    }),
    messageCharactersMax: Type.Integer({
      default: 2_048,
      minimum: 1,
      description: 'Longest message text, in Unicode characters.',
    }),
    dataBytesMax: Type.Integer({
      default: 4_096,
      minimum: 1,
      description: 'Most custom attributes, in bytes once encoded as msgpack.',
    }),
    dataDepthMax: Type.Integer({ default: 16, minimum: 1, description: 'Deepest nesting of custom attributes.' }),
    ttlMaxMs: Type.Integer({ default: 28 * DAY_MS, minimum: MINUTE_MS, description: 'Longest time to live.' }),
    notBeforeMaxMs: Type.Integer({
      default: 30 * DAY_MS,
      minimum: 0,
      description: 'Longest time from acceptance to `notBefore` of a scheduled message.',
    }),
    collapseKeyCharactersMax: Type.Integer({ default: 64, minimum: 1, description: 'Longest collapse key.' }),
    devicesMax: Type.Integer({
      default: 1_000,
      minimum: 1,
      description: 'Most registrations addressed by one message of type `devices`.',
    }),
    batchMax: Type.Integer({ default: 1_000, minimum: 1, description: 'Most messages of one batch.' }),
    batchTargetsMax: Type.Integer({
      default: 10_000,
      minimum: 1,
      description: 'Most targets that the messages of one batch name together.',
    }),
  },
  { additionalProperties: false, description: 'Limits of one message.' },
)
export type MessageLimits = Static<typeof MessageLimits>

export const DeviceLimits = Type.Object(
  {
    registrationsMax: Type.Integer({ default: 64, minimum: 1, description: 'Most registrations of a device.' }),
    registrationsPerDay: Type.Integer({
      default: 1_000,
      minimum: 1,
      description: 'Most new registrations of a device in a day (UTC), including those that have ended.',
    }),
    topicsMax: Type.Integer({ default: 256, minimum: 1, description: 'Most topic subscriptions of a device.' }),
    requestsMax: Type.Integer({
      default: 1_024,
      minimum: 1,
      description: 'Most device requests in progress in a core; further ones are answered `overloaded`.',
    }),
  },
  { additionalProperties: false, description: 'Limits of one device.' },
)
export type DeviceLimits = Static<typeof DeviceLimits>
