/**
 * POST .../messages:batch: up to 1,000 messages, each accepted or refused for itself. Their appends are under way
 * together, so that a batch waits for the store about as long as one message does.
 */
import { CodedError, Errors } from '../../../../protocol/errors.js'
import { sleep } from '../../../clock.js'
import { toCodedError } from '../../domain/errors.js'
import { Scope } from '../../tenants/auth/tokens.js'
import { readJson } from '../body.js'
import { errorBody, setRetryAfter } from '../error-answers.js'
import { flow } from '../flow.js'
import { type AuthenticatedCall, authenticate, requireActive } from './context.js'
import { costOf, idempotencyKeyOf, sendOne, type Taken } from './send.js'

type BatchCall = AuthenticatedCall & { body: unknown }

export const sendBatch = flow(
  authenticate(Scope.MESSAGE_UPDATE),
  requireActive,
  readJson('batch'),
  validate,
  limit,
  sendAll,
  answerBatch,
)

/** So many are begun in one turn of the event loop: others are not kept waiting for a whole batch. */
const TURN = 100

interface ValidCall extends BatchCall {
  messages: unknown[]
  keyOf: (index: number) => string | undefined
}

function validate(call: BatchCall): ValidCall {
  const { batchMax } = call.context.limits
  const messages = (call.body as { messages?: unknown } | null)?.messages
  if (!Array.isArray(messages) || messages.length === 0 || messages.length > batchMax) {
    throw new CodedError('invalid_request', `messages must be a list of 1 to ${batchMax}`, { field: 'messages' })
  }
  const key = idempotencyKeyOf(call.request.headers)
  // Each message has a key of its own, so that a batch that was stored in part can be sent again as a whole.
  return { ...call, messages, keyOf: (index) => (key === undefined ? undefined : `${key} ${index}`) }
}

function limit(call: ValidCall): ValidCall {
  const { context, project, messages, reply } = call
  context.rates.takeMessages(
    project,
    messages.reduce((sum: number, message) => sum + costOf(message), 0),
    reply,
  )
  return call
}

async function sendAll(call: ValidCall): Promise<BatchCall & { results: (Taken | CodedError)[] }> {
  const { context, project, messages, keyOf } = call
  const sending: Promise<Taken | CodedError>[] = []
  for (const [index, message] of messages.entries()) {
    if (index > 0 && index % TURN === 0) await sleep(context.clock, 0)
    const one = sendOne(context, project.id, message, keyOf(index))
    sending.push(one.catch((error: unknown) => toCodedError(error, context.log, 'a message of a batch')))
  }
  return { ...call, results: await Promise.all(sending) }
}

function answerBatch({ results, reply }: BatchCall & { results: (Taken | CodedError)[] }): object {
  const errors = results.filter((result) => result instanceof CodedError)
  const retry = errors.find(({ code }) => Errors[code].owner === 'us')
  // Nothing was accepted, and it was us: an answer that plain clients understand.
  if (retry && errors.length === results.length) throw retry
  if (retry) setRetryAfter(reply, retry.code)
  // What was only to be checked is neither accepted nor failed.
  const accepted = results.filter((result) => !(result instanceof CodedError) && result.isStored).length
  reply.code(errors.length > 0 ? 207 : accepted > 0 ? 202 : 200)
  return {
    accepted,
    failed: errors.length,
    results: results.map((result) => (result instanceof CodedError ? errorBody(result) : result.answer)),
  }
}
