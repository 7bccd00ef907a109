/** Answers an error of the token endpoint as OAuth does: `{"error", "error_description"}`. */
import type { FastifyReply } from 'fastify'
import { type CodedError, type ErrorCode, Errors } from '../../../../protocol/errors.js'
import { OAuthError } from '../../../../protocol/oauth-errors.js'
import type { Logger } from '../../../observe/log.js'
import { retryAfterMs, toCodedError } from '../../domain/errors.js'

export function answerOAuthError(reply: FastifyReply, thrown: unknown, log: Logger): object {
  const error = thrown instanceof OAuthError ? thrown : fromCoded(toCodedError(thrown, log, 'token endpoint'))
  const { retryAfterMs: retryMs = 0, challenge } = error.details
  if (retryMs > 0) reply.header('retry-after', Math.ceil(retryMs / 1000))
  if (challenge !== undefined) reply.header('www-authenticate', challenge)
  reply.code(error.status).header('cache-control', 'no-store').header('pragma', 'no-cache')
  return { error: error.code, error_description: error.message }
}

/** An error of the request keeps its status; an error of the service has Retry-After. */
function fromCoded(error: CodedError): OAuthError {
  const status = Errors[error.code].http
  const wait = retryAfterMs(error.code)
  if (status < 500) return new OAuthError('invalid_request', error.message, { status })
  const code = isPassing(error.code) ? 'temporarily_unavailable' : 'server_error'
  return new OAuthError(code, error.message, { status, retryAfterMs: wait })
}

const isPassing = (code: ErrorCode) => Errors[code].http === 503
