/** What a scenario is, and what it is given. Options and result fields are schemas: help, check and documents are made from them. */
import type { Static, TObject } from 'typebox'
import type { Undo } from './cleanup.js'
import type { Progress } from './progress.js'

export interface Scenario<O extends TObject = TObject, R extends TObject = TObject> {
  name: string
  /** One line. */
  summary: string
  /** Each property has a default and a description; names become flags: `rampPerSecond` is --ramp-per-second. */
  options: O
  result: R
  run(bench: Bench, options: Static<O>): Promise<Static<R>>
  /** Why a result that was given all the same is not a whole one; empty: it is. */
  failed?(result: Static<R>): string
  /** The important part of the result, for people. */
  show?(result: Static<R>): Row[]
}

export type Row = Record<string, string | number>

/** Keeps the types of options and result together while it is written; the registry needs only the general form. */
export function defineScenario<O extends TObject, R extends TObject>(scenario: Scenario<O, R>): Scenario {
  return scenario as unknown as Scenario
}

export interface Bench {
  readonly progress: Progress
  /** Runs at the end of the scenario, however it ends; last in, first out. */
  defer(undo: Undo): void
  /** Empty folder of this run, removed at its end. */
  readonly folder: string
}

/** What a person can act on: shown without a stack. */
export class BenchError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'BenchError'
  }
}
