/** One run of one scenario: its folder, its progress, its end. */
import { mkdtemp, rm } from 'node:fs/promises'
import { constants, tmpdir } from 'node:os'
import { join } from 'node:path'
import { Cleanup } from './cleanup.js'
import { Progress } from './progress.js'
import type { Scenario } from './scenario.js'

export interface RunOptions {
  progress?: Progress
  /** Default true: Ctrl-C and SIGTERM clean up, then end this process. */
  signals?: boolean
  /** Where the folder of the run is made; default the system's for temporary files. */
  base?: string
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

export async function runScenario(
  scenario: Scenario,
  options: Record<string, unknown>,
  { progress = new Progress(), signals = true, base = tmpdir() }: RunOptions = {},
): Promise<Record<string, unknown>> {
  const cleanup = new Cleanup()
  const complain = (error: unknown) => progress.say(`cleaning up: ${error instanceof Error ? error.message : error}`)
  const folder = await mkdtemp(join(base, `borealis-bench-${scenario.name}-`))
  cleanup.defer(() => rm(folder, { recursive: true, force: true }))
  const onSignal = (signal: NodeJS.Signals) => {
    progress.say(`${signal}: cleaning up`)
    void cleanup.run(complain).finally(() => process.exit(128 + constants.signals[signal]))
  }
  if (signals) for (const signal of SIGNALS) process.once(signal, onSignal)
  try {
    return await scenario.run({ progress, folder, defer: (undo) => cleanup.defer(undo) }, options)
  } finally {
    progress.done()
    await cleanup.run(complain)
    if (signals) for (const signal of SIGNALS) process.off(signal, onSignal)
  }
}
