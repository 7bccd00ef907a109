/** Runs one seed in this process. */
import type { Violation } from './parts.js'
import { type RunResult, World } from './world.js'

export interface SeedViolation extends Violation {
  seed: number
}

/** Runs one seed. An exception that no code catches, in the product or in the simulation, is a violation too. */
export async function runSeed(seed: number, isTraced = false): Promise<RunResult> {
  const world = new World(seed, isTraced)
  const onThrown = (error: unknown) =>
    world.fail('internal', error instanceof Error ? (error.stack ?? '') : String(error))
  process.on('unhandledRejection', onThrown)
  process.on('uncaughtException', onThrown)
  try {
    return await world.run()
  } catch (error) {
    onThrown(error)
    const { violation, trace } = world
    return { violation, digest: trace.digest, lines: trace.lines, virtualMs: 0, sent: 0, leaks: 0 }
  } finally {
    process.off('unhandledRejection', onThrown)
    process.off('uncaughtException', onThrown)
  }
}
