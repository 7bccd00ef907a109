/** One setting of the schema: what its value has to be, and how it is written in the environment. */
export interface LeafSchema {
  type?: string
  enum?: unknown[]
  anyOf?: { const?: unknown; type?: string }[]
  const?: unknown
  minimum?: number
  maximum?: number
  minLength?: number
  maxLength?: number
  pattern?: string
  items?: LeafSchema
  default?: unknown
  description?: string
}

/** What a value has to be, in words: `an integer from 0 to 65535`. */
export function expectation(schema: LeafSchema): string {
  const choices = schema.enum ?? schema.anyOf?.filter((one) => 'const' in one).map((one) => one.const)
  if (choices !== undefined && choices.length > 0) return `one of ${choices.join(', ')}`
  const { minimum, maximum } = schema
  const range =
    minimum !== undefined && maximum !== undefined
      ? ` from ${minimum} to ${maximum}`
      : minimum !== undefined
        ? ` of at least ${minimum}`
        : maximum !== undefined
          ? ` of at most ${maximum}`
          : ''
  if (schema.type === 'integer') return `an integer${range}`
  if (schema.type === 'number') return `a number${range}`
  if (schema.type === 'boolean') return 'true or false'
  if (schema.type === 'array') return `a list, each ${expectation(schema.items ?? {})}`
  if (schema.pattern !== undefined) return `text that matches ${schema.pattern}`
  if (schema.minLength !== undefined || schema.maxLength !== undefined) {
    return `text of ${schema.minLength ?? 0} to ${schema.maxLength ?? 'any number of'} characters`
  }
  return 'text'
}

/** `http.bodyBytesMax` is `BOREALIS_HTTP_BODY_BYTES_MAX`. */
export function variableOf(path: string): string {
  const words = path.replaceAll('.', '_').replace(/([a-z0-9])([A-Z])/g, '$1_$2')
  return `BOREALIS_${words.toUpperCase()}`
}

/** Text that is not of the schema's type stays text, for the check to complain about. */
export function fromText(schema: LeafSchema, text: string): unknown {
  if ((schema.type === 'integer' || schema.type === 'number') && text.trim() !== '') {
    const number = Number(text)
    return Number.isNaN(number) ? text : number
  }
  if (schema.type === 'boolean')
    return text === 'true' || text === '1' ? true : text === 'false' || text === '0' ? false : text
  if (schema.type === 'array') {
    const items = text.split(',').map((item) => item.trim())
    return items.filter((item) => item !== '').map((item) => fromText(schema.items ?? {}, item))
  }
  return text
}
