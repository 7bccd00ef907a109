/**
 * The interface of a scenario. Its options and its result are schemas: the flags with their help, the check of a result
 * and docs/bench.md are generated from them.
 */
import type { Static, TObject } from 'typebox'
import type { Undo } from './cleanup.js'
import type { Progress } from './progress.js'

export interface Scenario<O extends TObject = TObject, R extends TObject = TObject> {
  name: string
  /** One line for the help. */
  summary: string
  /** Each property has a default and a description. Its name becomes a flag: `rampPerSecond` is --ramp-per-second. */
  options: O
  result: R
  run(bench: Bench, options: Static<O>): Promise<Static<R>>
  /** Why a result is incomplete; empty if it is complete. An incomplete result is written, and the command fails. */
  failed?(result: Static<R>): string
  /** The rows of the table that is shown without --json; absent: all fields. */
  show?(result: Static<R>): Row[]
  /** Paths of the figures that the table of `--against` shows, such as `latencyMs.p99`; absent: all. */
  headline?: readonly string[]
}

export type Row = Record<string, string | number>

/** Checks a scenario against its own types of options and result. The list of scenarios needs the general type only. */
export function defineScenario<O extends TObject, R extends TObject>(scenario: Scenario<O, R>): Scenario {
  return scenario as unknown as Scenario
}

export interface Bench {
  readonly progress: Progress
  /** Registers an action for the end of the run (cleanup.ts). */
  defer(undo: Undo): void
  /** An empty folder for this run. It is removed at the end. */
  readonly folder: string
}

/** An error that the user can do something about. It is shown without a stack. */
export class BenchError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'BenchError'
  }
}
