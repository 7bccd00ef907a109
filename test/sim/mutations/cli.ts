/**
 * npm run mutants -- [--only NAME] [--seeds N] [--json FILE|-]
 *
 * Applies each deliberate break to a copy of the compiled tree and runs the simulation until it notices, and then the
 * tests of the part that is broken. Exit code 1: one survived N seeds (400) and its tests.
 */
import { spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { runSeeds } from '../pool.js'
import { mutate } from './apply.js'
import { families } from './index.js'
import type { Family, Mutation } from './mutation.js'

const SEEDS = '400'

interface Verdict {
  name: string
  rule: string
  caught: boolean
  /** Seeds that were run. */
  seeds: number
  /** What noticed it; empty: nothing did. */
  by: string
}

const { values } = parseArgs({
  options: { only: { type: 'string' }, seeds: { type: 'string', default: SEEDS }, json: { type: 'string' } },
})
const all = families.flatMap((family) => family.mutations.map((mutation) => ({ mutation, tests: family.tests })))
const chosen = all.filter(({ mutation }) => values.only === undefined || mutation.name === values.only)
if (chosen.length === 0) throw new RangeError(`no mutation is called ${values.only}`)

const verdicts: Verdict[] = []
/** Tests that pass without a break. Without that it says nothing that they fail with one. */
const sound = new Map<string, boolean>()
for (const { mutation, tests } of chosen) {
  const verdict = await judge(mutation, tests, Number(values.seeds))
  verdicts.push(verdict)
  if (values.json !== '-') process.stdout.write(`${lineOf(verdict)}\n`)
}
const survived = verdicts.filter(({ caught }) => !caught).map(({ name }) => name)
const json = `${JSON.stringify({ mutations: verdicts.length, survived, verdicts })}\n`
if (values.json === '-') process.stdout.write(json)
else if (values.json !== undefined) writeFileSync(values.json, json)
process.exitCode = survived.length > 0 ? 1 : 0

async function judge(mutation: Mutation, tests: Family['tests'], count: number): Promise<Verdict> {
  const { name, rule } = mutation
  const tree = mutate(mutation)
  try {
    const { seeds, violations } = await runSeeds({ first: 1, count }, { child: tree.child, stopEarly: true })
    const [violation] = violations
    if (violation) {
      const by = `seed ${violation.seed}: ${violation.invariant}: ${violation.what.split('\n')[0]}`
      return { name, rule, caught: true, seeds, by }
    }
    for (const test of tests) {
      if ((await isSound(test)) && !(await passes(join(tree.tests, test))))
        return { name, rule, caught: true, seeds, by: test }
    }
    return { name, rule, caught: false, seeds, by: '' }
  } finally {
    tree.remove()
  }
}

async function isSound(test: string): Promise<boolean> {
  const known = sound.get(test)
  if (known !== undefined) return known
  const tree = mutate({ name: 'none', rule: '', edits: [] })
  try {
    const passed = await passes(join(tree.tests, test))
    if (!passed) process.stderr.write(`${test} fails without any break: it is left out\n`)
    sound.set(test, passed)
    return passed
  } finally {
    tree.remove()
  }
}

function passes(test: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [test], { stdio: 'ignore' })
    child.on('error', reject)
    child.on('exit', (code) => resolve(code === 0))
  })
}

function lineOf({ name, caught, seeds, by }: Verdict): string {
  return `${caught ? 'caught  ' : 'SURVIVED'} ${name.padEnd(36)} ${String(seeds).padStart(5)} seeds  ${by}`
}
