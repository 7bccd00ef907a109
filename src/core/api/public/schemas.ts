/** The answers of the public API about messages, as schemas. Messages themselves: domain/message.ts. */
import Type, { type TSchema } from 'typebox'
import { MapOf, TextLike } from '../../domain/schema.js'
import { LISTED_STATUSES, MESSAGE_STATUSES, TRACE_STEPS, WAITING_REASONS } from '../../domain/statuses.js'
import { ErrorAnswer } from '../openapi/errors.js'
import { ProjectParams } from '../route.js'

export const DateTime = Type.String({ format: 'date-time' })

const Target = Type.Union([Type.String(), Type.Array(Type.String())], { $id: 'Target' })
const RejectedTarget = Type.Object({ target: Type.String(), code: Type.String() }, { $id: 'RejectedTarget' })

const aboutMessage = {
  type: Type.String(),
  target: Target,
  rejected: Type.Optional(
    Type.Array(RejectedTarget, {
      description: 'Targets of a `devices` message that it is not sent to, each with its code.',
    }),
  ),
  warnings: Type.Optional(Type.Array(Type.String(), { description: 'Fields that were ignored.' })),
}

export const AcceptedMessage = Type.Object(
  {
    id: Type.String({ description: 'Decimal, 63 bits. Keep it as text: many languages round such numbers.' }),
    status: Type.Enum(['accepted', 'scheduled']),
    acceptedAt: DateTime,
    notBefore: Type.Optional(DateTime),
    expiredAt: Type.String({ format: 'date-time', description: 'The service gives up at this time.' }),
    ...aboutMessage,
  },
  { $id: 'AcceptedMessage' },
)

export const ValidMessage = Type.Object({ status: Type.Literal('valid'), ...aboutMessage }, { $id: 'ValidMessage' })

export const batchOf = (message: TSchema, batchMax: number) =>
  Type.Object({ messages: Type.Array(message, { minItems: 1, maxItems: batchMax }) }, { $id: 'Batch' })

export const BatchResult = Type.Object(
  {
    accepted: Type.Integer({ description: 'The number of stored messages; those with validateOnly are not counted.' }),
    failed: Type.Integer(),
    results: Type.Array(Type.Union([AcceptedMessage, ValidMessage, ErrorAnswer], { $id: 'BatchItem' }), {
      description: 'One for each message, in their order.',
    }),
  },
  { $id: 'BatchResult' },
)

export const IdempotencyHeaders = Type.Object({
  'idempotency-key': Type.Optional(
    TextLike(/^[\x21-\x7e]{1,255}$/, '1 to 255 visible ASCII characters', {
      description:
        'The same request with the same key is one message, however often and wherever it arrives; kept as long as events are.',
    }),
  ),
})

export const MessageParams = Type.Object({
  ...ProjectParams.properties,
  message: Type.String({ description: 'The id of the message.' }),
})

export const MessageStatus = Type.Object(
  {
    id: Type.String(),
    status: Type.Enum([...MESSAGE_STATUSES], {
      description: '`completed`: several targets ended differently. `sent`: a group message that workers sent.',
    }),
    type: Type.String(),
    target: Target,
    acceptedAt: DateTime,
    notBefore: Type.Optional(DateTime),
    expiredAt: DateTime,
    counts: MapOf(Type.Integer(), { description: 'Targets by outcome; receipts of groups.' }),
    trace: Type.Array(
      Type.Object(
        {
          at: DateTime,
          step: Type.Enum([...TRACE_STEPS]),
          reason: Type.Optional(Type.String({ description: 'The reason, where it is known.' })),
          target: Type.Optional(Type.String({ description: 'The target, where there are several.' })),
        },
        { $id: 'TraceEntry' },
      ),
    ),
    waiting: Type.Optional(
      Type.Array(
        Type.Object(
          {
            target: Type.String(),
            why: Type.Enum([...WAITING_REASONS], { description: 'The thing that it waits for.' }),
            since: Type.Optional(DateTime),
          },
          { $id: 'WaitingTarget' },
        ),
        { description: 'Targets that have not ended; of very many, the first hundred.' },
      ),
    ),
  },
  { $id: 'MessageStatus' },
)

export const MessagePage = Type.Object(
  {
    messages: Type.Array(
      Type.Object(
        {
          id: Type.String(),
          type: Type.String(),
          acceptedAt: DateTime,
          status: Type.Optional(
            Type.Enum([...LISTED_STATUSES], {
              description: 'The status of a message with one target. For others, ask for the message.',
            }),
          ),
        },
        { $id: 'ListedMessage' },
      ),
    ),
    next: Type.Union([Type.String(), Type.Null()], {
      description: '`before` of the next page; null on the last page.',
    }),
  },
  { $id: 'MessagePage' },
)

export const CancelledMessage = Type.Object(
  { id: Type.String(), status: Type.Literal('cancelled') },
  { $id: 'CancelledMessage' },
)
