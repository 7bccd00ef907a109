/** Runs a scenario with the bench of this tree and the bench of another commit, in turns, and compares the figures. */
import { join } from 'node:path'
import Type, { type Static } from 'typebox'
import { Value } from 'typebox/value'
import { flagOf } from '../flags.js'
import type { Bench, Scenario } from '../scenario.js'
import { AgainstError } from './error.js'
import { type Comparison, compareRounds, type Round, valuesOf } from './figures.js'
import { runProgram } from './program.js'

/** The part of a result that a comparison needs. Other commits may write other fields beside it. */
const Written = Type.Object({ commit: Type.String(), result: Type.Record(Type.String(), Type.Unknown()) })
type Written = Static<typeof Written>

/** A tree with a built bench in it. */
export interface Build {
  /** For progress and errors, such as `this tree`. */
  name: string
  folder: string
}

export interface CompareOptions {
  tree: Build
  commit: Build & { hash: string }
  scenario: Pick<Scenario, 'name' | 'options'>
  parameters: Record<string, unknown>
  /** Names of the parameters that the user set. Others may be left out if the commit does not know them. */
  given: readonly string[]
  rounds: number
}

type Run = Pick<Bench, 'defer' | 'progress'>

export async function compare(bench: Run, options: CompareOptions): Promise<Comparison> {
  const { tree, commit, scenario, rounds } = options
  const flags = await commonFlags(bench, options)
  const measured: Round[] = []
  let treeCommit = ''
  for (let round = 1; round <= rounds; round++) {
    const run = (build: Build) => {
      const label = `round ${round} of ${rounds}, ${build.name}`
      return runBench(bench, build, label, [scenario.name, ...flags])
    }
    const ours = await run(tree)
    const theirs = await run(commit)
    treeCommit = ours.commit
    measured.push({ tree: valuesOf(ours.result), commit: valuesOf(theirs.result) })
  }
  const { figures, notCompared } = compareRounds(measured)
  return { of: scenario.name, tree: treeCommit, commit: commit.hash, figures, notCompared, rounds: measured }
}

/**
 * The flags that both benches know, with explicit values, because the defaults of the two may differ. The help text of
 * the commit's bench lists the flags that it knows.
 */
async function commonFlags(bench: Run, { commit, scenario, parameters, given }: CompareOptions): Promise<string[]> {
  const help = await runProgram(bench, command(commit, [scenario.name, '--help']), {
    folder: commit.folder,
    keepOutput: true,
  })
  // For an unknown scenario the commit's bench may print its general help.
  if (help.code !== 0 || !help.output.startsWith(`Usage: bench ${scenario.name} `)) {
    throw new AgainstError('not_comparable', `the bench of ${commit.name} has no scenario ${scenario.name}`)
  }
  const known = new Set(help.output.match(/--[a-z][a-z-]*/g))
  const unknown = Object.keys(parameters).filter((name) => !known.has(flagOf(name)))
  const refused = unknown.filter((name) => given.includes(name)).map(flagOf)
  if (refused.length > 0) {
    throw new AgainstError('not_comparable', `the bench of ${commit.name} does not know ${refused.join(', ')}`)
  }
  if (unknown.length > 0) {
    bench.progress.say(`${commit.name} does not know ${unknown.map(flagOf).join(', ')}: this tree uses its defaults`)
  }
  return Object.entries(parameters).flatMap(([name, value]) => {
    // An empty text or a switch that is off is expressed by leaving its flag out.
    if (unknown.includes(name) || value === '' || value === false) return []
    return value === true ? [flagOf(name)] : [flagOf(name), String(value)]
  })
}

async function runBench(bench: Run, build: Build, label: string, args: readonly string[]): Promise<Written> {
  bench.progress.say(label)
  const { code, output, tail } = await runProgram(bench, command(build, [...args, '--json', '-']), {
    folder: build.folder,
    keepOutput: true,
    onLine: (line) => bench.progress.say(`${label}: ${line.replace(/^bench: /, '')}`),
  })
  if (code !== 0) throw new AgainstError('run_failed', `${label} failed. Its last lines:\n${tail}`)
  const written = parse(output)
  if (!Value.Check(Written, written)) {
    throw new AgainstError('run_failed', `${label} ended without a result. Its last lines:\n${tail}`)
  }
  return written
}

function command({ folder }: Build, args: readonly string[]): [string, ...string[]] {
  return [process.execPath, join(folder, 'dist', 'bench', 'cli.js'), ...args]
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    // The caller reports invalid JSON like any invalid result, with the last lines of the run.
    return null
  }
}
