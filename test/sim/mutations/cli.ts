/**
 * npm run mutants -- [--only NAME[,NAME...]] [--seeds N] [--jobs N] [--json FILE|-]
 *
 * Puts each deliberate break into a copy of the compiled tree, and stops with it as soon as something notices: the test
 * made for its rule, if it names one; else the simulation; else the tests of the part that is broken. Exit code 1: one
 * survived its tests and N seeds (400).
 */
import { spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { runSeeds } from '../pool.js'
import { MutantTree } from './apply.js'
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
  options: {
    only: { type: 'string' },
    seeds: { type: 'string', default: SEEDS },
    jobs: { type: 'string' },
    json: { type: 'string' },
  },
})
const all = families.flatMap((family) => family.mutations.map((mutation) => ({ mutation, tests: family.tests })))
const names = values.only?.split(',')
const chosen = all.filter(({ mutation }) => names === undefined || names.includes(mutation.name))
if (chosen.length < (names?.length ?? 1)) throw new RangeError(`not all of these are mutations: ${values.only}`)

/** Tests that were run without a break: did they pass? */
const sound = new Map<string, boolean>()
const tree = new MutantTree()
process.once('exit', () => tree.remove())
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))

const verdicts: Verdict[] = []
for (const { mutation, tests } of chosen) {
  const verdict = await judge(mutation, tests)
  verdicts.push(verdict)
  if (values.json !== '-') process.stdout.write(`${lineOf(verdict)}\n`)
}
const survived = verdicts.filter(({ caught }) => !caught).map(({ name }) => name)
const json = `${JSON.stringify({ mutations: verdicts.length, survived, verdicts }, null, 1)}\n`
if (values.json === '-') process.stdout.write(json)
else if (values.json !== undefined) writeFileSync(values.json, json)
process.exitCode = survived.length > 0 ? 1 : 0

async function judge(mutation: Mutation, tests: Family['tests']): Promise<Verdict> {
  const { name, rule, test } = mutation
  const early = test === undefined ? null : await firstToFail(mutation, [test])
  if (early !== null) return { name, rule, caught: true, seeds: 0, by: early }
  const processes = values.jobs === undefined ? {} : { processesMax: Number(values.jobs) }
  const options = { child: tree.child, stopEarly: true, ...processes }
  const range = { first: 1, count: Number(values.seeds) }
  const { seeds, violations } = await tree.with(mutation, () => runSeeds(range, options))
  const [violation] = violations
  if (violation) {
    const by = `seed ${violation.seed}: ${violation.invariant}: ${violation.what.split('\n')[0]}`
    return { name, rule, caught: true, seeds, by }
  }
  const late = await firstToFail(mutation, tests)
  return { name, rule, caught: late !== null, seeds, by: late ?? '' }
}

async function firstToFail(mutation: Mutation, tests: readonly string[]): Promise<string | null> {
  for (const test of tests) {
    const path = join(tree.tests, test)
    // A test that fails without the break says nothing.
    if (!sound.has(test)) sound.set(test, await passes(path))
    if (!sound.get(test)) process.stderr.write(`${test} fails without any break: it is left out\n`)
    else if (!(await tree.with(mutation, () => passes(path)))) return test
  }
  return null
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
