/** The part of docs/bench.md that is made from the scenarios; a test compares the two. */
import type { TObject } from 'typebox'
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
    const flag = `--${option.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`
    return `| \`${flag}\` | ${value === '' ? 'none' : `\`${String(value)}\``} | ${description} |`
  })
  const fields = fieldNames(result).map((field) => `\`${field}\``)
  return [
    `### ${name}`,
    `${summary.charAt(0).toUpperCase()}${summary.slice(1)}.`,
    ['| option | default | meaning |', '| --- | --- | --- |', ...rows].join('\n'),
    `Fields: ${fields.join(', ')}.`,
  ].join('\n\n')
}

function fieldNames(schema: TObject | Leaf, prefix = ''): string[] {
  return Object.entries(schema.properties ?? {}).flatMap(([name, inner]) => {
    const given = inner as Leaf
    // What may be null is described by what it is otherwise.
    const leaf = given.anyOf?.find(({ properties }) => properties) ?? given
    if (leaf.type === 'array' && leaf.items?.properties) return fieldNames(leaf.items, `${prefix}${name}[].`)
    return leaf.properties ? fieldNames(leaf, `${prefix}${name}.`) : [`${prefix}${name}`]
  })
}
