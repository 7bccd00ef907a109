/**
 * npm run mutants -- [--only NAME] [--seeds N] [--json FILE|-]
 *
 * Applies each deliberate break to a copy of the compiled tree and runs the simulation until it notices. Exit code 1: one
 * survived N seeds (600).
 */
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { runSeeds } from '../pool.js'
import type { SeedViolation } from '../run.js'
import { mutate } from './apply.js'
import { mutations } from './index.js'
import type { Mutation } from './mutation.js'

const SEEDS = '600'

interface Verdict {
  name: string
  rule: string
  caught: boolean
  seeds: number
  violation: SeedViolation | null
}

const { values } = parseArgs({
  options: { only: { type: 'string' }, seeds: { type: 'string', default: SEEDS }, json: { type: 'string' } },
})
const chosen = mutations.filter(({ name }) => values.only === undefined || name === values.only)
if (chosen.length === 0) throw new RangeError(`no mutation is called ${values.only}`)

const verdicts: Verdict[] = []
for (const mutation of chosen) {
  const verdict = await judge(mutation, Number(values.seeds))
  verdicts.push(verdict)
  if (values.json !== '-') process.stdout.write(`${lineOf(verdict)}\n`)
}
const survived = verdicts.filter(({ caught }) => !caught).map(({ name }) => name)
const json = `${JSON.stringify({ mutations: verdicts.length, survived, verdicts })}\n`
if (values.json === '-') process.stdout.write(json)
else if (values.json !== undefined) writeFileSync(values.json, json)
process.exitCode = survived.length > 0 ? 1 : 0

async function judge(mutation: Mutation, count: number): Promise<Verdict> {
  const tree = mutate(mutation)
  try {
    const result = await runSeeds({ first: 1, count }, { child: tree.child, stopEarly: true })
    const [violation] = result.violations
    const { name, rule } = mutation
    return { name, rule, caught: violation !== undefined, seeds: result.seeds, violation: violation ?? null }
  } finally {
    tree.remove()
  }
}

function lineOf({ name, caught, seeds, violation }: Verdict): string {
  const how = violation ? `${violation.invariant} in seed ${violation.seed}: ${violation.what.split('\n')[0]}` : ''
  return `${caught ? 'caught  ' : 'SURVIVED'} ${name.padEnd(36)} ${String(seeds).padStart(5)} seeds  ${how}`
}
