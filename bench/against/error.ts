import { BenchError } from '../scenario.js'

/** Why a comparison with a commit did not come about. docs/bench.md says what to do about each. */
export const AGAINST_CODES = [
  'no_repository',
  'unknown_commit',
  'build_failed',
  'not_comparable',
  'run_failed',
] as const
export type AgainstCode = (typeof AGAINST_CODES)[number]

export class AgainstError extends BenchError {
  constructor(
    readonly code: AgainstCode,
    message: string,
  ) {
    // The code stands in front of the log that a message may end with.
    super(`${code}: ${message}`)
    this.name = 'AgainstError'
  }
}
