/** Reads the parameters of a request to the token endpoint: a form, as OAuth has it, or JSON, as ANS has it. */
import { CodedError } from '../../../../protocol/errors.js'
import { OAuthError } from '../../../../protocol/oauth-errors.js'
import { isObject } from '../../../type-guards.js'
import { parseJson } from '../../domain/json.js'
import { isJson, mediaTypeOf, readBytes } from '../body.js'
import type { Call } from '../public/context.js'

export interface TokenParameters {
  grant_type?: string
  client_assertion_type?: string
  client_assertion?: string
  client_id?: string
  scope?: string
  audience?: string
}

const NAMES = ['grant_type', 'client_assertion_type', 'client_assertion', 'client_id', 'scope', 'audience'] as const

/** An assertion with a long key id, scopes and audiences has a few kilobytes. */
const BODY_BYTES_MAX = 16 * 1024

/** Throws OAuthError or CodedError. Unknown parameters are ignored, as OAuth demands (RFC 6749, section 3.2). */
export async function readParameters(call: Call): Promise<TokenParameters> {
  const type = mediaTypeOf(call.request.headers)
  const isForm = type?.toLowerCase() === 'application/x-www-form-urlencoded'
  if (type === null || !(isForm || isJson(type))) {
    throw new CodedError('unsupported_media_type', 'the body must be a form or JSON, in UTF-8')
  }
  const bytes = await readBytes(call, BODY_BYTES_MAX)
  return isForm ? fromForm(bytes) : fromJson(parseJson(bytes))
}

function fromForm(bytes: Buffer): TokenParameters {
  const form = new URLSearchParams(bytes.toString('utf8'))
  const found: TokenParameters = {}
  for (const name of NAMES) {
    const values = form.getAll(name)
    if (values.length > 1) throw new OAuthError('invalid_request', `${name} is given twice`)
    // A parameter without a value is treated as if it were absent (RFC 6749, section 3.2).
    if (values[0]) found[name] = values[0]
  }
  return found
}

function fromJson(body: unknown): TokenParameters {
  if (!isObject(body)) throw new OAuthError('invalid_request', 'the body must be an object')
  const found: TokenParameters = {}
  for (const name of NAMES) {
    const value = body[name]
    if (value === undefined || value === null || value === '') continue
    if (typeof value !== 'string') throw new OAuthError('invalid_request', `${name} must be a string`)
    found[name] = value
  }
  return found
}
