/**
 * POST .../messages:batch: many messages, each accepted or refused for itself. Their appends are under way together, so
 * that a batch waits for the store about as long as one message does.
 */
import { CodedError, Errors } from '../../../../protocol/errors.js'
import { sleep } from '../../../clock.js'
import { toCodedError } from '../../domain/errors.js'
import { errorBody, setRetryAfter } from '../error-answers.js'
import { flow } from '../flow.js'
import type { AuthenticatedCall } from './context.js'
import { costOf, idempotencyKeyOf, type Sent, sendOne } from './send.js'

/** The messages themselves are not checked yet. */
type BatchCall = AuthenticatedCall & { body: { messages: unknown[] } }
type SentCall = BatchCall & { results: (Sent | CodedError)[] }

export const sendBatch = flow(limit, sendAll, answerBatch)

/** The messages begun in one turn of the event loop: a batch must not keep others waiting until it has begun. */
const MESSAGES_IN_TURN = 100

/** Throws CodedError `invalid_request` or `rate_limited`. */
function limit(call: BatchCall): BatchCall {
  const { context, project, body, reply } = call
  const cost = body.messages.reduce<number>((sum, message) => sum + costOf(message), 0)
  // Each target can be answered with an error of its own: without this limit the answer is many times the request.
  const { batchTargetsMax } = context.messages.limits
  if (cost > batchTargetsMax) {
    const text = `the messages of a batch name at most ${batchTargetsMax} targets together, and these name ${cost}`
    throw new CodedError('invalid_request', text, { field: 'messages' })
  }
  context.rates.takeMessages(project, cost, reply)
  return call
}

async function sendAll(call: BatchCall): Promise<SentCall> {
  const { context, project, body, request } = call
  const key = idempotencyKeyOf(request.headers)
  const sending: Promise<Sent | CodedError>[] = []
  for (const [index, message] of body.messages.entries()) {
    if (index > 0 && index % MESSAGES_IN_TURN === 0) await sleep(context.clock, 0)
    // Each message has a key of its own, so that a batch that was stored in part can be sent again as a whole.
    const one = sendOne(context, project.id, message, key === undefined ? undefined : `${key} ${index}`)
    sending.push(one.catch((error: unknown) => toCodedError(error, context.log, 'a message of a batch')))
  }
  return { ...call, results: await Promise.all(sending) }
}

function answerBatch({ results, reply }: SentCall): object {
  const errors = results.filter((result) => result instanceof CodedError)
  const retry = errors.find(({ code }) => Errors[code].owner === 'us')
  // The service accepted nothing by a fault of its own: plain clients understand one error for all.
  if (retry && errors.length === results.length) throw retry
  if (retry) setRetryAfter(reply, retry)
  // A message with validateOnly is neither accepted nor failed.
  const accepted = results.filter((result) => !(result instanceof CodedError) && result.isStored).length
  reply.code(errors.length > 0 ? 207 : accepted > 0 ? 202 : 200)
  return {
    accepted,
    failed: errors.length,
    results: results.map((result) => (result instanceof CodedError ? errorBody(result) : result.answer)),
  }
}
