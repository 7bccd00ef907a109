/** Checks a request against the schemas of its operation: the one place where the HTTP APIs check their input. */
import Type, { type Static, type TObject, type TSchema } from 'typebox'
import { CodedError } from '../../../protocol/errors.js'
import { Closed, checkerOf } from '../domain/schema.js'
import { type BodyKind, hasBody, readJson } from './body.js'
import type { BaseContext, HttpCall } from './call.js'

export interface Checked<P extends TObject, Q extends TObject, B> {
  params: Static<P>
  query: Static<Q>
  body: B
}

export interface CheckedParts {
  method: string
  operation: { params?: TObject; query?: TObject; headers?: TObject; body?: TSchema }
  reads?: BodyKind
  checks?: TSchema
}

const NOTHING = Type.Object({})

/** The step throws CodedError `invalid_request` with the name of the field, and what readJson throws. */
export function requestChecker<A extends HttpCall<BaseContext>, P extends TObject, Q extends TObject, B>({
  method,
  operation,
  reads = 'one',
  checks,
}: CheckedParts): (call: A) => Promise<A & Checked<P, Q, B>> {
  const { params = NOTHING, query = NOTHING, headers, body: described } = operation
  const checkParams = checkerOf(params, { whole: 'the path', part: 'parameter' })
  const checkQuery = checkerOf(Closed(query.properties), { whole: 'the query', part: 'parameter' })
  const checkHeaders = headers && checkerOf(headers, { whole: 'the header', part: 'header', detail: 'header' })
  // An operation that takes no fields refuses them too: the sender of a field expects something of it.
  const body = checks ?? described ?? (method === 'POST' || method === 'PUT' ? Closed({}) : undefined)
  const checkBody = body && checkerOf(body)
  const readBody = readJson(reads)
  const mayBeAbsent = body !== undefined && !hasRequired(body)
  return async (call) => {
    const { request } = call
    const found = {
      params: checkParams(request.params),
      query: checkQuery(queryOf(request.query as Record<string, unknown>, query)),
    }
    checkHeaders?.(request.headers)
    if (checkBody === undefined) return { ...call, ...found, body: undefined } as A & Checked<P, Q, B>
    const given = mayBeAbsent && !hasBody(request.headers) ? {} : (await readBody(call)).body
    return { ...call, ...found, body: checkBody(given) } as A & Checked<P, Q, B>
  }
}

const hasRequired = (schema: TSchema) => {
  const { type, required = [] } = schema as { type?: string; required?: string[] }
  return type !== 'object' || required.length > 0
}

/** Parameters are text, so that numbers are read here. Throws CodedError where one stands there twice. */
function queryOf(query: Record<string, unknown>, { properties }: TObject): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(query).map(([name, value]) => {
      if (Array.isArray(value)) {
        const field = name.slice(0, NAME_CHARACTERS_MAX)
        throw new CodedError('invalid_request', `${field} is given twice`, { field })
      }
      const isInteger = (properties[name] as { type?: string } | undefined)?.type === 'integer'
      return [name, isInteger && INTEGER.test(String(value)) ? Number(value) : value]
    }),
  )
}

const NAME_CHARACTERS_MAX = 64
/** At most 15 digits are exact in JavaScript. */
const INTEGER = /^[0-9]{1,15}$/
