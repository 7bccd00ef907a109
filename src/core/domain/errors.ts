/**
 * Converts thrown errors into coded errors, where a request is answered: HTTP, device requests and ingress. An unknown error
 * is logged with its cause, and the answer has only its code.
 */
import { CodedError, type ErrorCode, Errors } from '../../../protocol/errors.js'
import { BrokerError, type BrokerErrorCode } from '../../nats/broker.js'
import type { Logger } from '../../observe/log.js'

const CODE_OF_BROKER: Record<BrokerErrorCode, ErrorCode> = {
  // A compare-and-set that other writers have beaten in every attempt.
  wrong_last_sequence: 'overloaded',
  timeout: 'unavailable',
  no_responders: 'unavailable',
  disconnected: 'unavailable',
  unavailable: 'unavailable',
  full: 'storage_full',
}

export function toCodedError(error: unknown, log: Logger, where: string): CodedError {
  if (error instanceof CodedError) {
    if (error.code === 'internal') log.error({ error, where }, 'internal error')
    return error
  }
  if (error instanceof BrokerError) {
    const coded = new CodedError(CODE_OF_BROKER[error.code], undefined, {}, { cause: error })
    log.warn({ code: coded.code, cause: error.message, where }, 'the store refused or is unavailable')
    return coded
  }
  log.error({ error, where }, 'internal error')
  return new CodedError('internal', undefined, {}, { cause: error })
}

const RETRY_AFTER_MS = 1_000

/** Wait before the same request is tried again; 0: trying again does not help. */
export function retryAfterMs(code: ErrorCode): number {
  const { owner, next } = Errors[code]
  return next === 'retry' && (owner === 'us' || code === 'rate_limited') ? RETRY_AFTER_MS : 0
}
