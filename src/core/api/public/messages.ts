/** Messages over HTTP: send, look at, cancel. */
import Type from 'typebox'
import { CodedError } from '../../../../protocol/errors.js'
import { parseMessageId } from '../../../../protocol/message-id.js'
import type { MessageStatus as StatusOfMessage, WaitingTarget } from '../../domain/commands.js'
import type { MessageFormat } from '../../domain/message.js'
import { Scope } from '../../tenants/auth/tokens.js'
import { flow } from '../flow.js'
import { PROJECT_URL, ProjectParams, route } from '../route.js'
import { sendBatch } from './batch.js'
import { type ApiRoute, type AuthenticatedCall, authenticate, budgeted, requireActive } from './context.js'
import { listMessages, PageQuery } from './list.js'
import {
  AcceptedMessage,
  BatchResult,
  batchOf,
  CancelledMessage,
  IdempotencyHeaders,
  MessagePage,
  MessageParams,
  MessageStatus,
  ValidMessage,
} from './schemas.js'
import { costOf, idempotencyKeyOf, type Sent, sendOne } from './send.js'

type SendCall = AuthenticatedCall & { body: unknown }
type MessageCall = AuthenticatedCall & { params: { message: string } }

const scope = Scope.MESSAGE_UPDATE
const mayLook = authenticate(scope)
const maySend = flow(mayLook, requireActive)

/** POST .../messages: 202 once every target is stored, and never before. */
const sendMessage = flow(limit, send, answerSent)

function limit(call: SendCall): SendCall {
  call.context.rates.takeMessages(call.project, costOf(call.body), call.reply)
  return call
}

async function send(call: SendCall): Promise<SendCall & { sent: Sent }> {
  const sent = await sendOne(call.context, call.project.id, call.body, idempotencyKeyOf(call.request.headers))
  return { ...call, sent }
}

function answerSent({ sent, reply }: SendCall & { sent: Sent }): object {
  reply.code(sent.isStored ? 202 : 200)
  return sent.answer
}

async function showMessage(call: MessageCall): Promise<object> {
  const status = await call.context.readStatus(messageIdOf(call))
  // Another project's message is as unknown as one that never was.
  if (status?.project !== call.project.id) throw new CodedError('unknown_message')
  return answerStatus(status)
}

function answerStatus(status: StatusOfMessage): object {
  return {
    id: status.id.toString(),
    status: status.status,
    type: status.type,
    target: status.target,
    acceptedAt: new Date(status.acceptedAtMs).toISOString(),
    ...(status.notBeforeMs !== null && { notBefore: new Date(status.notBeforeMs).toISOString() }),
    expiredAt: new Date(status.expiresAtMs).toISOString(),
    counts: status.counts,
    trace: status.trace.map(({ atMs, ...entry }) => ({ at: new Date(atMs).toISOString(), ...entry })),
    ...(status.waiting.length > 0 && { waiting: status.waiting.map(answerWaiting) }),
  }
}

function answerWaiting({ sinceMs, ...waiting }: WaitingTarget): object {
  return sinceMs === undefined ? waiting : { ...waiting, since: new Date(sinceMs).toISOString() }
}

/** DELETE .../messages/{id}: cancels every target that has not ended. */
async function cancelMessage(call: MessageCall): Promise<object> {
  const id = messageIdOf(call)
  const outcome = await call.context.cancel(call.project.id, id)
  if (outcome === 'unknown') throw new CodedError('unknown_message')
  if (outcome === 'already_final') throw new CodedError('already_final')
  return { id: id.toString(), status: outcome }
}

function messageIdOf({ params }: MessageCall): bigint {
  const id = parseMessageId(params.message)
  if (id === null) throw new CodedError('unknown_message')
  return id
}

const tag = 'messages'
const MESSAGES_URL = `${PROJECT_URL}/messages`

const SEND_ERRORS = [
  'project_inactive',
  'unknown_registration',
  'foreign_registration',
  'revoked_registration',
  'unknown_application',
  'idempotency_conflict',
] as const

export function messageRoutes(messages: MessageFormat): ApiRoute[] {
  const { batchMax } = messages.limits
  return [
    route({
      method: 'POST',
      url: MESSAGES_URL,
      before: maySend,
      // Each message is checked where it is sent, alone or in a batch.
      checks: Type.Unknown(),
      handler: sendMessage,
      operation: {
        id: 'sendMessage',
        summary: 'Send a message',
        tag,
        scope,
        params: ProjectParams,
        headers: IdempotencyHeaders,
        body: messages.schema,
        answers: {
          200: { description: 'With `validateOnly`: the message would be accepted.', body: ValidMessage },
          202: {
            description: 'Every target is stored: it gets the message, or an end that is told.',
            body: AcceptedMessage,
          },
        },
        errors: SEND_ERRORS,
      },
    }),
    route({
      method: 'POST',
      url: `${MESSAGES_URL}::batch`,
      before: maySend,
      reads: 'batch',
      checks: batchOf(Type.Unknown(), batchMax),
      handler: sendBatch,
      operation: {
        id: 'sendBatch',
        summary: `Send up to ${batchMax} messages at once, each for itself`,
        tag,
        scope,
        params: ProjectParams,
        headers: IdempotencyHeaders,
        body: batchOf(messages.schema, batchMax),
        answers: {
          200: { description: 'All had `validateOnly`, and would be accepted.', body: BatchResult },
          202: { description: 'All are accepted, or had `validateOnly`.', body: BatchResult },
          207: { description: 'Some are refused: their results are errors.', body: BatchResult },
        },
        errors: SEND_ERRORS,
      },
    }),
    route({
      method: 'GET',
      url: MESSAGES_URL,
      before: mayLook,
      handler: budgeted(listMessages),
      operation: {
        id: 'listMessages',
        summary: 'The newest messages of the project, page by page',
        tag,
        scope,
        params: ProjectParams,
        query: PageQuery,
        answers: { 200: { description: 'Newest first.', body: MessagePage } },
        errors: [],
      },
    }),
    route({
      method: 'GET',
      url: `${MESSAGES_URL}/:message`,
      before: mayLook,
      handler: budgeted(showMessage),
      operation: {
        id: 'showMessage',
        summary: 'The status of a message, and each step on its way',
        tag,
        scope,
        params: MessageParams,
        answers: { 200: { description: 'Its status and trace.', body: MessageStatus } },
        errors: ['unknown_message'],
      },
    }),
    route({
      method: 'DELETE',
      url: `${MESSAGES_URL}/:message`,
      before: mayLook,
      handler: budgeted(cancelMessage),
      operation: {
        id: 'cancelMessage',
        summary: 'Cancel every target of a message that has not ended',
        tag,
        scope,
        params: MessageParams,
        answers: { 200: { description: 'At least one target was still open.', body: CancelledMessage } },
        errors: ['unknown_message', 'already_final'],
      },
    }),
  ]
}
