/** What a message looks like over HTTP, for the API's document. validate.ts checks the same, with errors that help. */
import Type from 'typebox'
import { LISTED_STATUSES, MESSAGE_STATUSES, TRACE_STEPS, WAITING_REASONS } from '../../domain/statuses.js'
import { ProjectParams } from '../route.js'

const RegistrationId = Type.String({ minLength: 1, maxLength: 512, description: 'As the app got it.' })

export const Message = Type.Object(
  {
    target: Type.Union([RegistrationId, Type.Array(RegistrationId, { minItems: 1, maxItems: 1_000 })], {
      description:
        'By `type`: a registrationId, a list of them, the name of a topic, an applicationId, or a user of the project.',
    }),
    type: Type.Union(
      ['device', 'devices', 'topic', 'application', 'user'].map((type) => Type.Literal(type)),
      { description: '`device` is what ANS has; the others reach many.' },
    ),
    ttl: Type.String({
      pattern: '^(?=[0-9])([0-9]{1,9}h)?([0-9]{1,9}m)?([0-9]{1,9}s)?$',
      examples: ['5h30m', '90s'],
      description: 'How long it is tried, up to 28 days (a setting); 0s: only devices that are connected then.',
    }),
    notBefore: Type.Optional(
      Type.String({
        format: 'date-time',
        description: 'Not before this time, up to 30 days ahead (a setting); its ttl counts from then.',
      }),
    ),
    priority: Type.Optional(
      Type.Union(
        ['normal', 'high', 'low'].map((priority) => Type.Literal(priority)),
        { default: 'normal' },
      ),
    ),
    collapseKey: Type.Optional(
      Type.String({
        maxLength: 64,
        description: 'Of what waits for a registration only the newest with this key stays.',
      }),
    ),
    validateOnly: Type.Optional(
      Type.Boolean({ default: false, description: 'Everything is checked, nothing is stored or sent.' }),
    ),
    notification: Type.Optional(
      Type.Object({
        title: Type.Optional(Type.String({ maxLength: 512 })),
        message: Type.Optional(Type.String({ maxLength: 2_048 })),
        data: Type.Optional(
          Type.Record(Type.String(), Type.Unknown(), {
            description: 'Custom attributes: up to 4,096 bytes once encoded as msgpack.',
          }),
        ),
      }),
    ),
  },
  { description: 'Fields that are not listed here are ignored, and named in `warnings` of the answer.' },
)

const DateTime = Type.String({ format: 'date-time' })
const ErrorBody = Type.Object({ code: Type.String(), message: Type.String(), details: Type.Object({}) })
const Target = Type.Union([Type.String(), Type.Array(Type.String())])
const Rejected = Type.Array(Type.Object({ target: Type.String(), code: Type.String() }), {
  description: 'Targets of a `devices` message that it is not sent to, and why.',
})
const Warnings = Type.Array(Type.String())
const answered = {
  type: Type.String(),
  target: Target,
  rejected: Type.Optional(Rejected),
  warnings: Type.Optional(Warnings),
}

export const Accepted = Type.Object({
  id: Type.String({ description: 'Decimal, 63 bits: may be read as a number where those are whole.' }),
  status: Type.Union([Type.Literal('accepted'), Type.Literal('scheduled')]),
  acceptedAt: DateTime,
  notBefore: Type.Optional(DateTime),
  expiredAt: Type.String({ format: 'date-time', description: 'When it is given up.' }),
  ...answered,
})

export const Valid = Type.Object({ status: Type.Literal('valid'), ...answered })

export const Batch = Type.Object({
  messages: Type.Array(Message, { minItems: 1, maxItems: 1_000 }),
})

export const BatchResult = Type.Object({
  accepted: Type.Integer({ description: 'How many are stored; what was only to be checked is not counted.' }),
  failed: Type.Integer(),
  results: Type.Array(Type.Union([Accepted, Valid, Type.Object({ error: ErrorBody })]), {
    description: 'One for each message, in their order.',
  }),
})

export const IdempotencyHeaders = Type.Object({
  'idempotency-key': Type.Optional(
    Type.String({
      pattern: '^[\\x21-\\x7e]{1,255}$',
      description:
        'The same request with the same key is one message, however often and wherever it arrives; kept as long as events are.',
    }),
  ),
})

export const MessageParams = Type.Object({
  ...ProjectParams.properties,
  message: Type.String({ pattern: '^[1-9][0-9]{0,18}$', description: 'Id of the message.' }),
})

export const Status = Type.Object({
  id: Type.String(),
  status: Type.String({
    description: `One of ${MESSAGE_STATUSES.join(', ')}. \`completed\`: several targets ended differently; \`sent\`: a group message that workers sent.`,
  }),
  type: Type.String(),
  target: Target,
  acceptedAt: DateTime,
  notBefore: Type.Optional(DateTime),
  expiredAt: DateTime,
  counts: Type.Record(Type.String(), Type.Integer(), { description: 'Targets by outcome; receipts of groups.' }),
  trace: Type.Array(
    Type.Object({
      at: DateTime,
      step: Type.String({ description: `One of ${TRACE_STEPS.join(', ')}.` }),
      reason: Type.Optional(Type.String({ description: 'Why, where that is known.' })),
      target: Type.Optional(Type.String({ description: 'Which one, where there are several.' })),
    }),
  ),
  waiting: Type.Optional(
    Type.Array(
      Type.Object({
        target: Type.String(),
        why: Type.Union(
          WAITING_REASONS.map((why) => Type.Literal(why)),
          { description: 'What it waits for.' },
        ),
        since: Type.Optional(DateTime),
      }),
      { description: 'Targets that have not ended; of very many, the first hundred.' },
    ),
  ),
})

export const PAGE_MAX = 100

export const PageQuery = Type.Object({
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: PAGE_MAX, default: 50 })),
  before: Type.Optional(Type.String({ description: '`next` of the page before.' })),
})

export const List = Type.Object({
  messages: Type.Array(
    Type.Object({
      id: Type.String(),
      type: Type.String(),
      acceptedAt: DateTime,
      status: Type.Optional(
        Type.String({
          description: `Of a message with one target: one of ${LISTED_STATUSES.join(', ')}. Of others: ask for it.`,
        }),
      ),
    }),
  ),
  next: Type.Union([Type.String(), Type.Null()], { description: 'For `before` of the next page; null: that was all.' }),
})

export const Cancelled = Type.Object({ id: Type.String(), status: Type.Literal('cancelled') })
