/**
 * npm run sim -- --seeds N [--seed S] [--jobs N] [--json FILE|-] [--trace]
 *
 * Runs N seeds from S (1) on, in as many processes as there are cores, or in --jobs. `--seed` alone replays that seed twice, compares the two runs, and prints what happened.
 * `leaks` of the result counts records of known kinds that stay for ever (leaks.ts). Exit code 1: an invariant was violated.
 */
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { type PoolResult, runSeeds } from './pool.js'
import { runSeed, type SeedViolation } from './run.js'

const DEFAULT_SEEDS = 200

const { values } = parseArgs({
  options: {
    seeds: { type: 'string' },
    seed: { type: 'string' },
    jobs: { type: 'string' },
    json: { type: 'string' },
    trace: { type: 'boolean', default: false },
  },
})

const first = wholeNumber('seed', values.seed ?? '1')
const isReplay = values.seed !== undefined && values.seeds === undefined
const result = isReplay
  ? await replay(first)
  : await runMany(wholeNumber('seeds', values.seeds ?? String(DEFAULT_SEEDS)))
report(result)
process.exitCode = result.violations.length > 0 ? 1 : 0

function wholeNumber(name: string, text: string): number {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`--${name} takes a whole number, not ${text}`)
  return value
}

async function replay(seed: number): Promise<PoolResult> {
  const run = await runSeed(seed, true)
  const again = await runSeed(seed)
  if (values.json !== '-') process.stdout.write(`${run.lines.join('\n')}\n`)
  const violations: SeedViolation[] = run.violation ? [{ seed, ...run.violation }] : []
  if (run.digest !== again.digest) {
    const what = `two runs differ: ${run.digest} and ${again.digest}`
    violations.push({ seed, invariant: 'internal', what })
  }
  return { seeds: 1, violations, leaks: run.leaks }
}

async function runMany(seeds: number): Promise<PoolResult> {
  const startedMs = performance.now()
  const isShown = process.stderr.isTTY === true
  const onProgress = (done: number, violations: number) => {
    const perMinute = Math.round(done / ((performance.now() - startedMs) / 60_000))
    process.stderr.write(`\r${done} of ${seeds} seeds, ${violations} violations, ${perMinute} a minute `)
  }
  const jobs = values.jobs === undefined ? {} : { processesMax: wholeNumber('jobs', values.jobs) }
  const many = await runSeeds({ first, count: seeds }, { ...jobs, ...(isShown ? { onProgress } : {}) })
  if (isShown) process.stderr.write('\n')
  const [worst] = many.violations
  if (values.trace && worst) {
    const { lines } = await runSeed(worst.seed, true)
    process.stderr.write(`${lines.join('\n')}\n`)
  }
  return many
}

function report({ seeds, violations, leaks }: PoolResult): void {
  const summary = { seeds, violations: violations.length, firstViolation: violations[0] ?? null, leaks }
  const json = `${JSON.stringify(summary)}\n`
  if (values.json !== undefined && values.json !== '-') writeFileSync(values.json, json)
  else process.stdout.write(json)
  if (values.json !== undefined) return
  for (const { seed, invariant, what } of violations.slice(1, 20)) {
    process.stdout.write(`seed ${seed}: ${invariant}: ${what.split('\n')[0]}\n`)
  }
}
