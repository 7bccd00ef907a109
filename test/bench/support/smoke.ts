import { readdirSync } from 'node:fs'
import type { Test } from 'tap'
import { checkResult } from '../../../bench/envelope.js'
import { pickOptions } from '../../../bench/flags.js'
import { Progress } from '../../../bench/progress.js'
import { runScenario } from '../../../bench/run.js'
import { scenarios } from '../../../bench/scenarios/index.js'
import { rowsOf } from '../../../bench/table.js'
import { leftChildren } from './left-children.js'

/**
 * Runs a scenario at a tiny size. Checks that the result is complete, and that no process and no file is left. It does
 * not check the figures, which need a quiet machine.
 */
export async function smoke(t: Test, name: string, options: Record<string, unknown>): Promise<Record<string, unknown>> {
  const scenario = scenarios.find((one) => one.name === name)
  if (!scenario) throw new RangeError(`no scenario ${name}`)
  const base = t.testdir()
  const result = await runScenario(scenario, pickOptions(scenario.options, options), {
    progress: new Progress(process.stderr, true),
    signals: false,
    base,
  })
  checkResult(scenario, result)
  const wrong = rowsOf(result).filter(({ value }) => typeof value === 'number' && !Number.isFinite(value))
  t.same(wrong, [], `${name}: every number is finite`)
  t.same(await leftChildren(), [], `${name}: every process has ended`)
  t.same(readdirSync(base), [], `${name}: the folder of the run is removed`)
  return result
}
