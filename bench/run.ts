/** One run of bench: its folder, its progress, and an end that leaves nothing behind. */
import { mkdtemp, rm } from 'node:fs/promises'
import { constants, tmpdir } from 'node:os'
import { join } from 'node:path'
import { onNpmEnded } from '../src/nats/server/end-with-parent.js'
import { Cleanup } from './cleanup.js'
import { Progress } from './progress.js'
import type { Bench, Scenario } from './scenario.js'

export interface RunOptions {
  progress?: Progress
  /** Default true: Ctrl-C, SIGTERM and SIGHUP clean up, then end this process. */
  signals?: boolean
  /** Where the folder of the run is made; default the system's folder for temporary files. */
  base?: string
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

export function runScenario(
  scenario: Scenario,
  parameters: Record<string, unknown>,
  options: RunOptions = {},
): Promise<Record<string, unknown>> {
  return runWithCleanup(scenario.name, (bench) => scenario.run(bench, parameters), options)
}

/** Runs `work` and then the cleanup, whether `work` succeeds, fails or is interrupted. */
export async function runWithCleanup<T>(
  name: string,
  work: (bench: Bench) => Promise<T>,
  { progress = new Progress(), signals = true, base = tmpdir() }: RunOptions = {},
): Promise<T> {
  const cleanup = new Cleanup()
  const complain = (error: unknown) => progress.say(`cleaning up: ${error instanceof Error ? error.message : error}`)
  const folder = await mkdtemp(join(base, `borealis-bench-${name}-`))
  cleanup.defer(() => rm(folder, { recursive: true, force: true }))
  let isInterrupted = false
  const interrupt = (why: string, exitCode: number) => {
    isInterrupted = true
    progress.say(`${why}: cleaning up`)
    void cleanup.run(complain).finally(() => process.exit(exitCode))
  }
  const onSignal = (signal: NodeJS.Signals) => interrupt(signal, 128 + constants.signals[signal])
  if (signals) for (const signal of SIGNALS) process.once(signal, onSignal)
  const stopWatchingNpm = signals ? onNpmEnded(() => interrupt('npm was killed', 1)) : () => undefined
  try {
    return await work({ progress, folder, defer: (undo) => cleanup.defer(undo) })
  } catch (error) {
    // Failures that the cleanup causes are not reported. The process exits after the cleanup.
    if (isInterrupted) await new Promise(() => undefined)
    throw error
  } finally {
    progress.done()
    await cleanup.run(complain)
    stopWatchingNpm()
    if (signals) for (const signal of SIGNALS) process.off(signal, onSignal)
  }
}
