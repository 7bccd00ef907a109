/** Generates the reference part of docs/bench.md from the scenarios. A test compares the two. */
import type { TObject } from 'typebox'
import { flagOf } from './flags.js'
import type { Scenario } from './scenario.js'

interface Leaf {
  type?: string
  default?: unknown
  description?: string
  properties?: Record<string, Leaf>
  items?: Leaf
  anyOf?: Leaf[]
}

export const REFERENCE_HEADING = '## Scenarios, options, fields'

export function reference(scenarios: readonly Scenario[]): string {
  return `${[REFERENCE_HEADING, ...scenarios.map(section)].join('\n\n')}\n`
}

function section({ name, summary, options, result }: Scenario): string {
  const rows = Object.entries(options.properties).map(([option, schema]) => {
    const { default: value, description = '' } = schema as Leaf
    return `| \`${flagOf(option)}\` | ${value === '' ? 'none' : `\`${String(value)}\``} | ${description} |`
  })
  const fields = fieldNames(result).map((field) => `\`${field}\``)
  return [
    `### ${name}`,
    `${summary.charAt(0).toUpperCase()}${summary.slice(1)}.`,
    ['| option | default | meaning |', '| --- | --- | --- |', ...rows].join('\n'),
    `Fields: ${fields.join(', ')}.`,
  ].join('\n\n')
}

/** Paths of all fields of a result, such as `latencyMs.p99` and `rounds[].bare`. */
export function fieldNames(schema: TObject | Leaf, prefix = ''): string[] {
  return Object.entries(schema.properties ?? {}).flatMap(([name, inner]) => {
    const given = inner as Leaf
    // A field that may be null is listed by its other type.
    const leaf = given.anyOf?.find(({ properties }) => properties) ?? given
    if (leaf.type === 'array' && leaf.items?.properties) return fieldNames(leaf.items, `${prefix}${name}[].`)
    return leaf.properties ? fieldNames(leaf, `${prefix}${name}.`) : [`${prefix}${name}`]
  })
}
