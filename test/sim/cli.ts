/** `npm run sim`: many seeds in many processes, or one seed as a story. Exit code 1: an invariant was violated, or the run was cut. */
import { writeFileSync } from 'node:fs'
import { Command } from 'commander'
import { commit } from '../../bench/envelope.js'
import { whole } from '../support/options.js'
import { type PoolResult, runSeeds } from './pool.js'
import { runSeed, type SeedViolation } from './run.js'

interface Options {
  seeds?: number
  seed?: number
  jobs?: number
  json?: string
  trace: boolean
}

const SEEDS_DEFAULT = 200
/** Where nobody looks at a terminal, a line so often. */
const LINE_MS = 30_000
const VIOLATIONS_TOLD = 20

await new Command('sim')
  .description(
    'Runs the real core steps, workers and device connections on a virtual clock, with a simulated network, store and faults that a seed decides, and checks the invariants I1 to I5 once all is quiet. Prints {"seeds", "violations", "firstViolation", "leaks", "firstSeed", "commit"}; `leaks` counts records of known kinds that stay for ever (leaks.ts).',
  )
  .option('--seeds <n>', `how many seeds (default: ${SEEDS_DEFAULT})`, whole(1))
  .option(
    '--seed <n>',
    'the first of them (default: 1); without --seeds: replay this one twice, and tell what happened',
    whole(0),
  )
  .option('--jobs <n>', 'processes (default: as many as there are cores)', whole(1))
  .option('--json <file>', 'write the result as JSON; - for standard output')
  .option('--trace', 'tell what happened in the first seed that violates', false)
  .addHelpText(
    'after',
    `
A long run tells how far it is on standard error. SIGINT or SIGTERM ends it early: the result is of the seeds so far, of
which none is missing, and "nextSeed" is where to go on.

Examples:
  npm run -s sim -- --seeds 2000 --json -
  npm run -s sim -- --seed 1246                      the story of one seed
  npm run -s sim -- --seeds 500 --seed 4001 --trace`,
  )
  .action(perform)
  .parseAsync()

async function perform(options: Options): Promise<void> {
  const isReplay = options.seed !== undefined && options.seeds === undefined
  const first = options.seed ?? 1
  const seeds = isReplay ? 1 : (options.seeds ?? SEEDS_DEFAULT)
  const result = isReplay ? await replay(first, options) : await runMany(first, seeds, options)
  report(result, first, seeds, options)
  process.exitCode = result.violations.length > 0 || result.seeds < seeds ? 1 : 0
}

async function replay(seed: number, { json }: Options): Promise<PoolResult> {
  const run = await runSeed(seed, true)
  const again = await runSeed(seed)
  if (json !== '-') process.stdout.write(`${run.lines.join('\n')}\n`)
  const violations: SeedViolation[] = run.violation ? [{ seed, ...run.violation }] : []
  if (run.digest !== again.digest) {
    const what = `two runs differ: ${run.digest} and ${again.digest}`
    violations.push({ seed, invariant: 'internal', what })
  }
  return { seeds: 1, violations, leaks: run.leaks }
}

async function runMany(first: number, count: number, { jobs, trace }: Options): Promise<PoolResult> {
  const cut = new AbortController()
  const end = () => cut.abort()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, end)
  const options = {
    onProgress: progressOf(count),
    signal: cut.signal,
    ...(jobs !== undefined && { processesMax: jobs }),
  }
  const many = await runSeeds({ first, count }, options)
  if (process.stderr.isTTY) process.stderr.write('\n')
  const [worst] = many.violations
  if (trace && worst) {
    const { lines } = await runSeed(worst.seed, true)
    process.stderr.write(`${lines.join('\n')}\n`)
  }
  return many
}

/** Violations as they are found: a long run is not awaited for them. */
function progressOf(seeds: number): (soFar: Readonly<PoolResult>) => void {
  const startedMs = performance.now()
  let toldMs = startedMs
  let told = 0
  return ({ seeds: done, violations }) => {
    for (const violation of violations.slice(told, VIOLATIONS_TOLD)) {
      process.stderr.write(`${process.stderr.isTTY ? '\n' : ''}${storyOf(violation)}`)
    }
    told = violations.length
    const nowMs = performance.now()
    const perMinute = Math.round(done / ((nowMs - startedMs) / 60_000))
    const text = `${done} of ${seeds} seeds, ${violations.length} violations, ${perMinute} a minute`
    if (process.stderr.isTTY) process.stderr.write(`\r${text} `)
    else if (nowMs - toldMs >= LINE_MS) {
      toldMs = nowMs
      process.stderr.write(`sim: ${text}\n`)
    }
  }
}

function report(result: PoolResult, firstSeed: number, wanted: number, options: Options): void {
  const { seeds, violations, leaks } = result
  const isCut = seeds < wanted
  const summary = {
    ...{ seeds, violations: violations.length, firstViolation: violations[0] ?? null, leaks },
    ...{ firstSeed, commit: commit(), ...(isCut && { nextSeed: firstSeed + seeds }) },
  }
  const json = `${JSON.stringify(summary)}\n`
  if (options.json !== undefined && options.json !== '-') writeFileSync(options.json, json)
  else process.stdout.write(json)
}

function storyOf({ seed, invariant, what }: SeedViolation): string {
  return `seed ${seed}: ${invariant}: ${what.split('\n')[0]}\n`
}
