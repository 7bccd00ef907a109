/**
 * `npm run sim`: runs many seeds in several processes, or prints everything that happens in one seed. Exit code 1: an
 * invariant was violated, or the run was interrupted.
 */
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
/** Time between two lines of progress where standard error is no terminal. */
const PROGRESS_INTERVAL_MS = 30_000
const VIOLATIONS_PRINTED_MAX = 20

await new Command('sim')
  .description(
    'Runs the real core, worker and device code on a virtual clock, with a simulated network, store and disk. The seed decides the load and the faults. After each run the invariants I1 to I5 of ARCHITECTURE.md are checked. Prints {"seeds", "violations", "firstViolation", "leaks", "firstSeed", "commit"}; "leaks" counts records of known kinds that stay in the store for ever (test/sim/leaks.ts).',
  )
  .option('--seeds <n>', `the number of seeds to run (default: ${SEEDS_DEFAULT})`, whole(1))
  .option(
    '--seed <n>',
    'the first seed (default: 1); without --seeds: run this seed twice, compare the runs, and print every step',
    whole(0),
  )
  .option('--jobs <n>', 'the number of processes (default: one for each CPU core)', whole(1))
  .option('--json <file>', 'write the result as JSON; - for standard output')
  .option('--trace', 'print every step of the first seed that violates an invariant', false)
  .addHelpText(
    'after',
    `
A long run prints its progress on standard error. SIGINT or SIGTERM ends it early: the result then covers every seed
before "nextSeed", and a later run can continue there with --seed.

Examples:
  npm run -s sim -- --seeds 2000 --json -
  npm run -s sim -- --seed 1246                      every step of one seed
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
    const detail = `two runs of the seed differ: digests ${run.digest} and ${again.digest}`
    violations.push({ seed, invariant: 'internal', detail })
  }
  return { seeds: 1, violations, leaks: run.leaks }
}

async function runMany(first: number, count: number, { jobs, trace }: Options): Promise<PoolResult> {
  const interruption = new AbortController()
  const interrupt = () => interruption.abort()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, interrupt)
  const options = {
    onProgress: createProgress(count),
    signal: interruption.signal,
    ...(jobs !== undefined && { processesMax: jobs }),
  }
  const result = await runSeeds({ first, count }, options)
  if (process.stderr.isTTY) process.stderr.write('\n')
  const [firstViolation] = result.violations
  if (trace && firstViolation) {
    const { lines } = await runSeed(firstViolation.seed, true)
    process.stderr.write(`${lines.join('\n')}\n`)
  }
  return result
}

/** Prints each violation as soon as it is found, so that a reader need not wait for the end of a long run. */
function createProgress(seeds: number): (soFar: Readonly<PoolResult>) => void {
  const startedMs = performance.now()
  let printedMs = startedMs
  let printed = 0
  return ({ seeds: done, violations }) => {
    for (const violation of violations.slice(printed, VIOLATIONS_PRINTED_MAX)) {
      process.stderr.write(`${process.stderr.isTTY ? '\n' : ''}${lineOf(violation)}`)
    }
    printed = violations.length
    const nowMs = performance.now()
    const perMinute = Math.round(done / ((nowMs - startedMs) / 60_000))
    const text = `${done} of ${seeds} seeds, ${violations.length} violations, ${perMinute} a minute`
    if (process.stderr.isTTY) process.stderr.write(`\r${text} `)
    else if (nowMs - printedMs >= PROGRESS_INTERVAL_MS) {
      printedMs = nowMs
      process.stderr.write(`sim: ${text}\n`)
    }
  }
}

function report(result: PoolResult, firstSeed: number, wanted: number, options: Options): void {
  const { seeds, violations, leaks } = result
  const isInterrupted = seeds < wanted
  const summary = {
    ...{ seeds, violations: violations.length, firstViolation: violations[0] ?? null, leaks },
    ...{ firstSeed, commit: commit(), ...(isInterrupted && { nextSeed: firstSeed + seeds }) },
  }
  const json = `${JSON.stringify(summary)}\n`
  if (options.json !== undefined && options.json !== '-') writeFileSync(options.json, json)
  else process.stdout.write(json)
}

function lineOf({ seed, invariant, detail }: SeedViolation): string {
  return `seed ${seed}: ${invariant}: ${detail.split('\n')[0]}\n`
}
