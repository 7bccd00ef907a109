/** Parameters of a query: each at most once, as text, inside its bounds. */
import { CodedError } from '../../../protocol/errors.js'
import type { BaseContext, HttpCall } from './call.js'

/** Empty and absent are the same. Throws CodedError `invalid_request` where it is given twice or too long. */
export function queryText(call: Pick<HttpCall<BaseContext>, 'request'>, name: string, charactersMax: number): string {
  const value = (call.request.query as Record<string, unknown>)[name] ?? ''
  if (typeof value !== 'string') throw invalid(name, 'is given twice')
  if (value.length > charactersMax) throw invalid(name, `must have at most ${charactersMax} characters`)
  return value
}

/** A whole number from `minimum` to `maximum`. Throws CodedError `invalid_request`. */
export function queryNumber(
  call: Pick<HttpCall<BaseContext>, 'request'>,
  name: string,
  { minimum, maximum, absent }: { minimum: number; maximum: number; absent: number },
): number {
  const text = queryText(call, name, 16)
  if (text === '') return absent
  const value = Number(text)
  if (!/^[0-9]+$/.test(text) || value < minimum || value > maximum) {
    throw invalid(name, `must be a whole number from ${minimum} to ${maximum}`)
  }
  return value
}

function invalid(field: string, problem: string): CodedError {
  return new CodedError('invalid_request', `${field} ${problem}`, { field })
}
