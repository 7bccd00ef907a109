/** Writes errors as the API documents them: `{"error":{"code","message","details"}}`, to replies and to bare sockets. */
import { STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyReply } from 'fastify'
import { CodedError, type ErrorCode, Errors } from '../../../protocol/errors.js'
import type { Logger } from '../../observe/log.js'
import { retryAfterMs, toCodedError } from '../domain/errors.js'

export function errorBody(error: CodedError): { error: { code: ErrorCode; message: string; details: object } } {
  return { error: { code: error.code, message: error.message, details: error.details } }
}

export function answerError(reply: FastifyReply, thrown: unknown, log: Logger, where: string): FastifyReply {
  const error = toCodedError(fromFramework(thrown), log, where)
  setRetryAfter(reply, error)
  const status = Errors[error.code].http
  if (status === 401) reply.header('www-authenticate', 'Bearer')
  return reply
    .code(status)
    .type('application/json; charset=utf-8')
    .send(JSON.stringify(errorBody(error)))
}

export function setRetryAfter(reply: FastifyReply, { code, details }: CodedError): void {
  const retryMs = typeof details.retryAfterMs === 'number' ? details.retryAfterMs : retryAfterMs(code)
  // The step that refused the request may have set a more precise time.
  if (retryMs > 0 && !reply.hasHeader('retry-after')) reply.header('retry-after', Math.ceil(retryMs / 1000))
}

const CODE_OF_FRAMEWORK: Record<string, ErrorCode> = {
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'unsupported_media_type',
  FST_ERR_BAD_URL: 'not_found',
  FST_ERR_MAX_PARAM_LENGTH: 'not_found',
}

/** An error with which fastify itself refused a request. Those that stand in no table are the caller's all the same. */
function fromFramework(thrown: unknown): unknown {
  if (thrown instanceof CodedError || typeof thrown !== 'object' || thrown === null) return thrown
  const {
    code = '',
    statusCode = 500,
    message = '',
  } = thrown as { code?: string; statusCode?: number; message?: string }
  if (!code.startsWith('FST_') || statusCode >= 500) return thrown
  const known = CODE_OF_FRAMEWORK[code]
  return known ? new CodedError(known) : new CodedError('invalid_request', message)
}

/** Answers an error of Node's HTTP parser: there is no request yet, or its body arrived too slowly. */
export function answerSocket(error: NodeJS.ErrnoException, socket: Socket): void {
  if (socket.destroyed || !socket.writable) {
    socket.destroy()
    return
  }
  const code = codeOfParser(error.code)
  const body = JSON.stringify(errorBody(new CodedError(code)))
  const status = Errors[code].http
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nconnection: close\r\ncontent-type: application/json; charset=utf-8\r\n` +
      `content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
    // A client that does not read the answer is not waited for.
    () => socket.destroy(),
  )
}

function codeOfParser(code: string | undefined): ErrorCode {
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') return 'request_timeout'
  if (code === 'HPE_HEADER_OVERFLOW') return 'payload_too_large'
  return 'invalid_request'
}
