/**
 * `npm run mutants`: shows that the tests can fail. It applies each mutation to a copy of the compiled tree, and looks for
 * a test that fails: first the test that the mutation names, then the simulation, then the tests of the mutated part.
 */
import { spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Command, InvalidArgumentError } from 'commander'
import { commit } from '../../../bench/envelope.js'
import { whole } from '../../support/options.js'
import { runSeeds } from '../pool.js'
import { MutantTree } from './apply.js'
import { families } from './index.js'
import type { Family, Mutation } from './mutation.js'

const SEEDS_DEFAULT = 400

interface Options {
  only?: string[]
  seeds: number
  jobs?: number
  json?: string
}

interface Verdict {
  name: string
  rule: string
  caught: boolean
  /** Number of seeds that were run. */
  seeds: number
  /** The test or the violation that caught the mutation; empty if it survived. */
  by: string
}

/** Whether each test passes without a mutation. */
const passesUnmutated = new Map<string, boolean>()
const tree = new MutantTree()
process.once('exit', () => tree.remove())

await new Command('mutants')
  .description(
    'Breaks the rules of the design one by one in a copy of the compiled tree, and shows which test or which seed of the simulation catches each break. Exit code 1: a mutation survived all tests and seeds, or the run was interrupted.',
  )
  .option('--only <names>', 'run these mutations alone; names separated by commas', mutationNames)
  .option('--seeds <n>', 'the number of seeds of the simulation for each mutation', whole(1), SEEDS_DEFAULT)
  .option('--jobs <n>', 'the number of processes of the simulation (default: one for each CPU core)', whole(1))
  .option('--json <file>', 'write the verdicts as JSON; - for standard output')
  .addHelpText(
    'after',
    '\nPrints one line for each mutation. SIGINT or SIGTERM ends the run early, with the verdicts so far.',
  )
  .action(perform)
  .parseAsync()

async function perform(options: Options): Promise<void> {
  const all = families.flatMap((family) => family.mutations.map((mutation) => ({ mutation, tests: family.tests })))
  const chosen = all.filter(({ mutation }) => options.only === undefined || options.only.includes(mutation.name))
  const verdicts: Verdict[] = []
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => conclude(verdicts, chosen.length, options))
  for (const { mutation, tests } of chosen) {
    const verdict = await judge(mutation, tests, options)
    verdicts.push(verdict)
    if (options.json !== '-') process.stdout.write(`${lineOf(verdict)}\n`)
  }
  conclude(verdicts, chosen.length, options)
}

function conclude(verdicts: Verdict[], wanted: number, { json: file }: Options): void {
  const survived = verdicts.filter(({ caught }) => !caught).map(({ name }) => name)
  const mutations = verdicts.length
  const cut = mutations < wanted ? { notJudged: wanted - mutations } : {}
  const json = `${JSON.stringify({ mutations, survived, ...cut, commit: commit(), verdicts }, null, 1)}\n`
  if (file === '-') process.stdout.write(json)
  else if (file !== undefined) writeFileSync(file, json)
  process.exit(survived.length > 0 || mutations < wanted ? 1 : 0)
}

async function judge(mutation: Mutation, tests: Family['tests'], { seeds: count, jobs }: Options): Promise<Verdict> {
  const { name, rule, test } = mutation
  const early = test === undefined ? null : await firstToFail(mutation, [test])
  if (early !== null) return { name, rule, caught: true, seeds: 0, by: early }
  const options = { child: tree.child, stopEarly: true, ...(jobs !== undefined && { processesMax: jobs }) }
  const range = { first: 1, count }
  const { seeds, violations } = await tree.with(mutation, () => runSeeds(range, options))
  const [violation] = violations
  if (violation) {
    const by = `seed ${violation.seed}: ${violation.invariant}: ${violation.detail.split('\n')[0]}`
    return { name, rule, caught: true, seeds, by }
  }
  const late = await firstToFail(mutation, tests)
  return { name, rule, caught: late !== null, seeds, by: late ?? '' }
}

async function firstToFail(mutation: Mutation, tests: readonly string[]): Promise<string | null> {
  for (const test of tests) {
    const path = join(tree.tests, test)
    // A test that fails without a mutation proves nothing.
    if (!passesUnmutated.has(test)) passesUnmutated.set(test, await passes(path))
    if (!passesUnmutated.get(test)) process.stderr.write(`${test} fails without a mutation, and is left out\n`)
    else if (!(await tree.with(mutation, () => passes(path)))) return test
  }
  return null
}

function mutationNames(text: string): string[] {
  const known = families.flatMap(({ mutations }) => mutations.map(({ name }) => name))
  const names = text.split(',')
  const unknown = names.filter((name) => !known.includes(name))
  if (unknown.length === 0) return names
  throw new InvalidArgumentError(`Unknown: ${unknown.join(', ')}. The mutations are: ${known.join(', ')}.`)
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
