/** Makes command line flags from the schema of a scenario's options. */
import { type Command, InvalidArgumentError, Option } from 'commander'
import type { TObject } from 'typebox'
import { Value } from 'typebox/value'

interface Leaf {
  type?: string
  minimum?: number
  maximum?: number
  anyOf?: Leaf[]
  const?: unknown
  default?: unknown
  description?: string
}

/** `rampPerSecond` is --ramp-per-second. */
export function flagOf(option: string): string {
  return `--${option.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`
}

export function addFlags(command: Command, options: TObject): void {
  for (const [name, schema] of Object.entries(options.properties)) {
    const leaf = schema as Leaf
    const flag = flagOf(name)
    const option = new Option(leaf.type === 'boolean' ? flag : `${flag} <${placeholder(leaf)}>`, help(leaf))
    if (leaf.default !== undefined) option.default(leaf.default)
    if (leaf.type !== 'boolean') option.argParser((text) => parse(leaf, text))
    command.addOption(option)
  }
}

/** Picks the options of the schema out of `given`, fills in the defaults, and checks the result. */
export function pickOptions(options: TObject, given: Record<string, unknown>): Record<string, unknown> {
  const names = Object.keys(options.properties).filter((name) => given[name] !== undefined)
  const complete = Value.Default(options, Object.fromEntries(names.map((name) => [name, given[name]])))
  Value.Assert(options, complete)
  return complete as Record<string, unknown>
}

function parse(leaf: Leaf, text: string): unknown {
  const choices = leaf.anyOf ?? [leaf]
  for (const choice of choices) {
    if (choice.const !== undefined) {
      if (text === choice.const) return text
    } else if (choice.type === 'integer' || choice.type === 'number') {
      const number = text.trim() === '' ? Number.NaN : Number(text)
      const whole = choice.type === 'number' || Number.isInteger(number)
      if (whole && number >= (choice.minimum ?? -Infinity) && number <= (choice.maximum ?? Infinity)) return number
    } else if (choice.type === 'string') return text
  }
  throw new InvalidArgumentError(`It has to be ${choices.map(describe).join(' or ')}.`)
}

function placeholder(leaf: Leaf): string {
  return (leaf.anyOf ?? [leaf]).map((one) => String(one.const ?? (one.type === 'string' ? 'text' : 'number'))).join('|')
}

function describe(leaf: Leaf): string {
  if (leaf.const !== undefined) return `"${String(leaf.const)}"`
  if (leaf.type !== 'integer' && leaf.type !== 'number') return 'text'
  const kind = leaf.type === 'integer' ? 'an integer' : 'a number'
  if (leaf.maximum === undefined) return `${kind} of at least ${leaf.minimum ?? 0}`
  return `${kind} from ${leaf.minimum ?? 0} to ${leaf.maximum}`
}

function help(leaf: Leaf): string {
  const { description = '' } = leaf
  const bounded = leaf.type === 'integer' || leaf.type === 'number'
  return bounded && leaf.maximum !== undefined ? `${description} (${describe(leaf)})` : description
}
