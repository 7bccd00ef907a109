/** One setting of the schema, and its form in the environment. */
import type { DescribedSchema } from '../core/domain/schema.js'

export interface LeafSchema extends DescribedSchema {
  items?: LeafSchema
  default?: unknown
  description?: string
}

/** The environment variable of a setting: `http.bodyBytesMax` becomes `BOREALIS_HTTP_BODY_BYTES_MAX`. */
export function variableOf(path: string): string {
  const words = path.replaceAll('.', '_').replace(/([a-z0-9])([A-Z])/g, '$1_$2')
  return `BOREALIS_${words.toUpperCase()}`
}

/** Parses the text of an environment variable. Text of another type stays text, so that the check reports it. */
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
