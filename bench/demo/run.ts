/** Runs the cases of the demo one after the other on a system of its own, and checks the counts of each. */
import { join } from 'node:path'
import { type RunOptions, runWithCleanup } from '../run.js'
import { BenchError } from '../scenario.js'
import { type Case, cases, conservation } from './cases.js'
import { type Check, checkLine, summaryLines } from './check.js'
import { startDemo } from './context.js'

export interface DemoResult {
  ok: boolean
  checks: Check[]
  seconds: number
}

export interface DemoOptions extends RunOptions {
  /** Default all cases of the demo. */
  all?: Readonly<Record<string, Case>>
  /** Runs the cases whose name contains this text; default all. */
  only?: string
  /** Gets each line for the user. */
  say(line: string): void
}

export async function runDemo({ all = cases, only = '', say, ...options }: DemoOptions): Promise<DemoResult> {
  const chosen = Object.entries(all).filter(([name]) => name.includes(only))
  if (chosen.length === 0) {
    const names = Object.keys(all).map((name) => `\n  ${name}`)
    throw new BenchError(`the demo has no case with "${only}" in its name. Its cases:${names.join('')}`)
  }
  const startedMs = performance.now()
  return runWithCleanup(
    'demo',
    async (bench) => {
      const { context, close } = await startDemo(join(bench.folder, 'system'), say)
      bench.defer(close)
      const { checks } = context
      const run = async (name: string, one: Case) => {
        say(name)
        checks.begin(name)
        const before = checks.list.length
        await one(context)
        for (const check of checks.list.slice(before)) {
          // The name of the case is printed above.
          say(`  ${checkLine({ ...check, name: check.name.slice(name.length + 2) })}`)
        }
      }
      for (const [name, one] of chosen) await run(name, one)
      await run('counters', conservation)
      const seconds = Math.round((performance.now() - startedMs) / 100) / 10
      for (const line of summaryLines(checks.list, seconds)) say(line)
      return { ok: checks.ok, checks: checks.list, seconds }
    },
    options,
  )
}
