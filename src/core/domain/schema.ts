/**
 * Validates values with the schemas that also describe them in the API's documents. TypeBox compiles a schema; this file
 * turns the first problem into a coded error that names the field and its expected value.
 */
import Type, {
  type Static,
  type TObject,
  type TProperties,
  type TSchema,
  type TSchemaOptions,
  type TStringOptions,
} from 'typebox'
import { Compile } from 'typebox/compile'
import type { TLocalizedValidationError } from 'typebox/error'
import { CodedError } from '../../../protocol/errors.js'

/** Returns the value. Throws CodedError `invalid_request` with `details.field` if the value does not match the schema. */
export type Checker<T extends TSchema> = (value: unknown) => Static<T>

export interface CheckerOptions {
  /** The name of the whole value in messages. */
  whole?: string
  /** The name of one of its properties in messages. */
  part?: string
  /** The key of `details` that names the property. */
  detail?: string
}

/** Compiles the schema at the first use, because a process never uses many of its schemas. */
export function checkerOf<T extends TSchema>(schema: T, options: CheckerOptions = {}): Checker<T> {
  const { whole = 'the body', part = 'field', detail = 'field' } = options
  let compiled: ReturnType<typeof Compile> | null = null
  return (value) => {
    compiled ??= Compile(schema as TSchema)
    if (compiled.Check(value)) return value as Static<T>
    throw problemOf(schema, compiled.Errors(value), { whole, part, detail })
  }
}

// ---- kinds of schemas -------------------------------------------------------------------------

const LONE_SURROGATE = /\p{Surrogate}/u

/** False for a text with a lone surrogate, which UTF-8 cannot encode: devices would get another text. */
export const isWellFormed = (text: string): boolean => !LONE_SURROGATE.test(text)

/** Text in well-formed Unicode. JSON Schema counts its length in code points, and so does TypeBox. */
export const Text = (options: TStringOptions = {}) =>
  Type.Refine(Type.String(options), isWellFormed, () => 'must be well-formed Unicode')

/** The key for a description of the values in error messages. It is a symbol, so that JSON documents do not have it. */
const IN_WORDS = Symbol('in words')

/** Adds a description for error messages to a schema, to be shown instead of its pattern. */
export const inWords = <T extends object>(words: string, options: T): T => ({ ...options, [IN_WORDS]: words })

/** A text that matches a pattern. Error messages show `words` instead of the pattern. */
export const TextLike = (pattern: RegExp, words: string, options: TStringOptions = {}) =>
  Type.String(inWords(words, { ...options, pattern: pattern.source }))

/** An object without further fields, so that a misspelt field is an error. */
export const Closed = <P extends TProperties>(properties: P, options: TSchemaOptions = {}) =>
  Type.Object(properties, { ...options, additionalProperties: false })

/** An object whose keys are data. */
export const MapOf = (values: TSchema, options: TSchemaOptions = {}) =>
  Type.Unsafe<Record<string, unknown>>({ ...options, type: 'object', additionalProperties: values })

// ---- error messages ---------------------------------------------------------------------------

/** The part of a schema that error messages use. */
export interface DescribedSchema {
  [IN_WORDS]?: string
  type?: string
  enum?: unknown[]
  anyOf?: DescribedSchema[]
  const?: unknown
  minimum?: number
  maximum?: number
  minLength?: number
  maxLength?: number
  minItems?: number
  maxItems?: number
  pattern?: string
  format?: string
  items?: DescribedSchema
}

/** Describes the values of a schema in words, such as `an integer from 0 to 65535`. */
export function expectation(schema: DescribedSchema): string {
  const words = schema[IN_WORDS]
  if (words !== undefined) return words
  if (schema.const !== undefined) return JSON.stringify(schema.const)
  const alternatives = schema.anyOf ?? []
  const choices =
    schema.enum ?? (alternatives.every((one) => 'const' in one) ? alternatives.map((one) => one.const) : [])
  if (choices.length > 0) return `one of ${choices.join(', ')}`
  if (alternatives.length > 0) return alternatives.map(expectation).join(', or ')
  const { type, minimum, maximum, minLength, maxLength, minItems, maxItems, pattern, items } = schema
  if (type === 'integer') return `an integer${range(minimum, maximum)}`
  if (type === 'number') return `a number${range(minimum, maximum)}`
  if (type === 'boolean') return 'true or false'
  if (type === 'array') {
    const size = minItems === undefined && maxItems === undefined ? '' : ` of ${count(minItems, maxItems)} entries`
    return `a list${size}, each ${expectation(items ?? {})}`
  }
  if (type === 'object') return 'an object'
  if (type === 'null') return 'null'
  if (pattern !== undefined) return `text that matches ${pattern}`
  if (minLength === 1 && maxLength === undefined) return 'text that is not empty'
  if (minLength !== undefined || maxLength !== undefined) return `text of ${count(minLength, maxLength)} characters`
  return 'text'
}

function range(minimum: number | undefined, maximum: number | undefined): string {
  if (minimum !== undefined && maximum !== undefined) return ` from ${minimum} to ${maximum}`
  if (minimum !== undefined) return ` of at least ${minimum}`
  return maximum === undefined ? '' : ` of at most ${maximum}`
}

function count(least: number | undefined, most: number | undefined): string {
  if (most === undefined) return `at least ${least}`
  return least === undefined ? `at most ${most}` : `${least} to ${most}`
}

/** Longest part of a caller's field name that an error message repeats. */
const NAME_CHARACTERS_MAX = 64
/** Most known names that an error message lists. */
const NAMES_MAX = 12

function problemOf(
  schema: TSchema,
  errors: TLocalizedValidationError[],
  { whole, part, detail }: Required<CheckerOptions>,
): CodedError {
  const refuse = (field: string, message: string) => new CodedError('invalid_request', message, { [detail]: field })
  const error = decisive(errors)
  const at = fieldOf(error.instancePath)
  const inside = (name: string) => (at === '' ? name : `${at}.${name}`)
  if (error.keyword === 'required') {
    const field = inside(error.params.requiredProperties[0] ?? '')
    return refuse(field, `${field} is required`)
  }
  if (error.keyword === 'additionalProperties') {
    const field = inside((error.params.additionalProperties[0] ?? '').slice(0, NAME_CHARACTERS_MAX))
    const known = Object.keys((nodeAt(schema, error.schemaPath) as TObject).properties ?? {})
    const list = known.length > 0 && known.length <= NAMES_MAX ? `; there are: ${known.join(', ')}` : ''
    return refuse(field, `there is no ${part} ${field}${list}`)
  }
  const name = at === '' ? whole : at
  if (error.keyword === '~refine') return refuse(at, `${name} ${error.message}`)
  return refuse(at, `${name} must be ${expectation(nodeAt(schema, error.schemaPath) as DescribedSchema)}`)
}

/** The first error. If it concerns one of several alternatives, the error that concerns all of them. */
function decisive(errors: TLocalizedValidationError[]): TLocalizedValidationError {
  // `boolean` accompanies `additionalProperties`, and has no details.
  const [first, ...others] = errors.filter(({ keyword }) => keyword !== 'boolean')
  if (first === undefined) throw new TypeError('a value that breaks its schema has an error')
  const wider = others.find(
    ({ keyword, schemaPath }) => keyword === 'anyOf' && first.schemaPath.startsWith(`${schemaPath}/anyOf/`),
  )
  return wider ?? first
}

/** Turns a JSON pointer into a field name: `/target/1` into `target[1]`, `/notification/title` into `notification.title`. */
function fieldOf(pointer: string): string {
  const [head = '', ...rest] = keysOf(pointer)
  return head + rest.map((key) => (/^[0-9]+$/.test(key) ? `[${key}]` : `.${key}`)).join('')
}

function nodeAt(schema: unknown, pointer: string): unknown {
  return keysOf(pointer.slice(1)).reduce((node, key) => (node as Record<string, unknown> | undefined)?.[key], schema)
}

/** The keys of a JSON pointer (RFC 6901). */
function keysOf(pointer: string): string[] {
  return pointer
    .split('/')
    .slice(1)
    .map((key) => key.replaceAll('~1', '/').replaceAll('~0', '~'))
}
