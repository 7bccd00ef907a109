/** Messages over HTTP: send, look at, cancel. */
import { CodedError } from '../../../../protocol/errors.js'
import { parseMessageId } from '../../../../protocol/message-id.js'
import type { MessageStatus, WaitingTarget } from '../../domain/commands.js'
import { Scope } from '../../tenants/auth/tokens.js'
import { readJson } from '../body.js'
import { flow } from '../flow.js'
import { PROJECT_URL, ProjectParams } from '../route.js'
import { sendBatch } from './batch.js'
import type { ApiRoute } from './context.js'
import { type AuthenticatedCall, authenticate, paramOf, requireActive } from './context.js'
import { listMessages } from './list.js'
import {
  Accepted,
  Batch,
  BatchResult,
  Cancelled,
  IdempotencyHeaders,
  List,
  Message,
  MessageParams,
  PageQuery,
  Status,
  Valid,
} from './message-schemas.js'
import { costOf, idempotencyKeyOf, sendOne, type Taken } from './send.js'

type SendCall = AuthenticatedCall & { body: unknown }

/** POST .../messages: 202 once every target is stored, and never before. */
const sendMessage = flow(authenticate(Scope.MESSAGE_UPDATE), requireActive, readJson('one'), limit, send, answerSent)

/** GET .../messages/{id} */
const showMessage = flow(authenticate(Scope.MESSAGE_UPDATE), findMessage, answerStatus)

/** DELETE .../messages/{id}: what is not decided yet is cancelled. */
const cancelMessage = flow(authenticate(Scope.MESSAGE_UPDATE), cancel)

function limit(call: SendCall): SendCall {
  call.context.rates.takeMessages(call.project, costOf(call.body), call.reply)
  return call
}

async function send(call: SendCall): Promise<SendCall & { taken: Taken }> {
  const taken = await sendOne(call.context, call.project.id, call.body, idempotencyKeyOf(call.request.headers))
  return { ...call, taken }
}

function answerSent({ taken, reply }: { taken: Taken } & SendCall): object {
  reply.code(taken.isStored ? 202 : 200)
  return taken.answer
}

async function findMessage(call: AuthenticatedCall): Promise<MessageStatus> {
  const id = messageIdOf(call)
  const status = await call.context.readStatus(id)
  // Another project's message is as unknown as one that never was.
  if (status?.project !== call.project.id) throw new CodedError('unknown_message')
  return status
}

function answerStatus(status: MessageStatus): object {
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

async function cancel(call: AuthenticatedCall): Promise<object> {
  const id = messageIdOf(call)
  const outcome = await call.context.cancel(call.project.id, id)
  if (outcome === 'unknown') throw new CodedError('unknown_message')
  if (outcome === 'already_final') throw new CodedError('already_final')
  return { id: id.toString(), status: outcome }
}

function messageIdOf(call: AuthenticatedCall): bigint {
  const id = parseMessageId(paramOf(call, 'message'))
  if (id === null) throw new CodedError('unknown_message')
  return id
}

const tag = 'messages'
const scope = Scope.MESSAGE_UPDATE
const MESSAGES_URL = `${PROJECT_URL}/messages`

/** What sending a message may be answered, beside what every operation may. */
const SEND_ERRORS = [
  ...(['malformed_json', 'invalid_request', 'payload_too_large', 'unsupported_media_type'] as const),
  ...(['project_inactive', 'unknown_registration', 'foreign_registration', 'revoked_registration'] as const),
  ...(['unknown_application', 'idempotency_conflict', 'storage_full'] as const),
]

export const messageRoutes: readonly ApiRoute[] = [
  {
    method: 'POST',
    url: MESSAGES_URL,
    handler: sendMessage,
    operation: {
      ...{ id: 'sendMessage', summary: 'Send a message', tag, scope },
      params: ProjectParams,
      headers: IdempotencyHeaders,
      body: Message,
      answers: {
        200: { description: 'With `validateOnly`: it would be accepted.', body: Valid },
        202: { description: 'Stored: it reaches its targets, or its end is told.', body: Accepted },
      },
      errors: SEND_ERRORS,
    },
  },
  {
    method: 'POST',
    url: `${MESSAGES_URL}::batch`,
    handler: sendBatch,
    operation: {
      ...{ id: 'sendBatch', summary: 'Send up to 1,000 messages at once, each for itself', tag, scope },
      params: ProjectParams,
      headers: IdempotencyHeaders,
      body: Batch,
      answers: {
        200: { description: 'All were only to be checked, and would be accepted.', body: BatchResult },
        202: { description: 'Every one is accepted, or was only to be checked.', body: BatchResult },
        207: { description: 'Some were not: their results are errors.', body: BatchResult },
      },
      errors: SEND_ERRORS,
    },
  },
  {
    method: 'GET',
    url: MESSAGES_URL,
    handler: listMessages,
    operation: {
      ...{ id: 'listMessages', summary: 'The newest messages of the project, page by page', tag, scope },
      params: ProjectParams,
      query: PageQuery,
      answers: { 200: { description: 'Newest first.', body: List } },
      errors: ['invalid_request'],
    },
  },
  {
    method: 'GET',
    url: `${MESSAGES_URL}/:message`,
    handler: showMessage,
    operation: {
      ...{ id: 'showMessage', summary: 'What became of a message, step by step', tag, scope },
      params: MessageParams,
      answers: { 200: { description: 'Its status and trace.', body: Status } },
      errors: ['unknown_message'],
    },
  },
  {
    method: 'DELETE',
    url: `${MESSAGES_URL}/:message`,
    handler: cancelMessage,
    operation: {
      ...{ id: 'cancelMessage', summary: 'Take a message back, as far as it is not decided', tag, scope },
      params: MessageParams,
      answers: { 200: { description: 'At least one target was still open.', body: Cancelled } },
      errors: ['unknown_message', 'already_final'],
    },
  },
]
