import { BenchError } from '../scenario.js'

/** The reasons why a comparison with a commit fails. docs/bench.md has a remedy for each. */
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
    // The code comes first, because a message may end with the lines of a log.
    super(`${code}: ${message}`)
    this.name = 'AgainstError'
  }
}
