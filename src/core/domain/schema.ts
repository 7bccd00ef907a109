/**
 * One schema describes a value in the API's documents and checks it: TypeBox compiles the schema, and this file turns the
 * first problem into a coded error that names the field and what the field must be.
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

/** Returns the value. Throws CodedError `invalid_request` with `details.field` where the value breaks the schema. */
export type Checker<T extends TSchema> = (value: unknown) => Static<T>

export interface CheckerOptions {
  /** The name of the whole value in messages. */
  whole?: string
  /** The name of one of its properties in messages. */
  part?: string
  /** The key of `details` that names the property. */
  detail?: string
}

/** Compiles at the first use: many schemas of a process are never needed. */
export function checkerOf<T extends TSchema>(schema: T, options: CheckerOptions = {}): Checker<T> {
  const { whole = 'the body', part = 'field', detail = 'field' } = options
  let compiled: ReturnType<typeof Compile> | null = null
  return (value) => {
    compiled ??= Compile(schema as TSchema)
    if (compiled.Check(value)) return value as Static<T>
    throw problemOf(schema, compiled.Errors(value), { whole, part, detail })
  }
}

// ---- schemas with a check of their own --------------------------------------------------------

const LONE_SURROGATE = /\p{Surrogate}/u

/** UTF-8 has no form for a lone surrogate: such text would reach devices as something else. */
export const isWellFormed = (text: string): boolean => !LONE_SURROGATE.test(text)

/** Text in well-formed Unicode. JSON Schema counts its length in code points, and so does TypeBox. */
export const Text = (options: TStringOptions = {}) =>
  Type.Refine(Type.String(options), isWellFormed, () => 'must be well-formed Unicode')

/** Under this key a schema says in words what its values are. A symbol, so that it stands in no document. */
const IN_WORDS = Symbol('in words')

/** Gives a schema the words for error messages: few people read patterns. */
export const inWords = <T extends object>(words: string, options: T): T => ({ ...options, [IN_WORDS]: words })

/** Text of one form, which `words` names in error messages. */
export const TextLike = (pattern: RegExp, words: string, options: TStringOptions = {}) =>
  Type.String(inWords(words, { ...options, pattern: pattern.source }))

/** An object in which any other field is a mistake: a misspelt field must not be taken for an absent one. */
export const Closed = <P extends TProperties>(properties: P, options: TSchemaOptions = {}) =>
  Type.Object(properties, { ...options, additionalProperties: false })

/** An object whose keys are data. */
export const MapOf = (values: TSchema, options: TSchemaOptions = {}) =>
  Type.Unsafe<Record<string, unknown>>({ ...options, type: 'object', additionalProperties: values })

// ---- what is wrong, in words ------------------------------------------------------------------

/** The part of a schema that error messages read. */
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

/** What a value must be, in words: `an integer from 0 to 65535`. */
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

/** A name that a caller chose is repeated only so far. */
const NAME_CHARACTERS_MAX = 64
/** A list of known names longer than this does not help the reader of one message. */
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

/** The first error; where that is about one alternative of several, the error about all of them. */
function decisive(errors: TLocalizedValidationError[]): TLocalizedValidationError {
  // `boolean` accompanies additionalProperties, and says less.
  const [first, ...others] = errors.filter(({ keyword }) => keyword !== 'boolean')
  if (first === undefined) throw new TypeError('a value that breaks its schema has an error')
  const wider = others.find(
    ({ keyword, schemaPath }) => keyword === 'anyOf' && first.schemaPath.startsWith(`${schemaPath}/anyOf/`),
  )
  return wider ?? first
}

/** `/target/1` is `target[1]`, and `/notification/title` is `notification.title`. */
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
