/** The result of a fault run, and the function that joins the results of several runs of one fault. */
import { commit } from '../../bench/envelope.js'
import type { Verdict } from './oracle.js'

export interface Result extends Verdict {
  fault: string
  injections: number
  /** The seed of each run. */
  seeds: number[]
  /** The commit of each run; `-dirty` marks uncommitted changes. */
  commits: string[]
  /** Time from the injection until each probed device got a push that was sent after it. */
  recoverySeconds: Percentiles
  /** The same time, counted from the end of the fault. */
  afterHealingSeconds: Percentiles
  /** The counters of the API, summed over all projects. */
  ends: Record<string, number>
  seconds: number
  /** One value for each injection; null if the system did not recover in time. */
  recoveryMs: (number | null)[]
  afterHealingMs: (number | null)[]
}

export interface Percentiles {
  p50: number | null
  p99: number | null
}

type Run = Pick<Result, 'fault' | 'violations' | 'ends' | 'seconds' | 'recoveryMs' | 'afterHealingMs'> & {
  seed: number
  verdict: Verdict
}

export function resultOf({ fault, seed, verdict, ends, seconds, recoveryMs, afterHealingMs, violations }: Run): Result {
  return {
    ...{ fault, injections: recoveryMs.length, seeds: [seed], commits: [commit()], ...verdict, violations },
    ...{ recoverySeconds: percentiles(recoveryMs), afterHealingSeconds: percentiles(afterHealingMs) },
    ...{ ends, seconds, recoveryMs, afterHealingMs },
  }
}

/** Joins the results of runs of one fault. Throws RangeError for results of several faults, or for none. */
export function joinResults(results: readonly Result[]): Result {
  const [first] = results
  if (!first || results.some(({ fault }) => fault !== first.fault))
    throw new RangeError(
      `results of one fault are needed, got: ${results.map(({ fault }) => fault).join(', ') || 'none'}`,
    )
  // A single result is kept unchanged, because older results have no list of recoveries.
  if (results.length === 1) return first
  const sum = (of: (result: Result) => number) => results.reduce((all, result) => all + of(result), 0)
  const recoveryMs = results.flatMap((result) => result.recoveryMs)
  const afterHealingMs = results.flatMap((result) => result.afterHealingMs)
  const injections = sum((result) => result.injections)
  // A result does not have the number of pushes on the wire, so each run is weighted by its injections.
  const share = sum((result) => result.wireDuplicateShare * result.injections) / Math.max(1, injections)
  return {
    fault: first.fault,
    injections,
    seeds: results.flatMap(({ seeds }) => seeds),
    commits: [...new Set(results.flatMap(({ commits }) => commits))],
    accepted: sum(({ accepted }) => accepted),
    rejected: sum(({ rejected }) => rejected),
    indeterminate: sum(({ indeterminate }) => indeterminate),
    targets: sum(({ targets }) => targets),
    lost: sum(({ lost }) => lost),
    appDuplicates: sum(({ appDuplicates }) => appDuplicates),
    phantoms: sum(({ phantoms }) => phantoms),
    wireDuplicateShare: Number(share.toPrecision(3)),
    violations: results.flatMap(({ violations }) => violations),
    recoverySeconds: percentiles(recoveryMs),
    afterHealingSeconds: percentiles(afterHealingMs),
    ends: sumOf(results.map(({ ends }) => ends)),
    seconds: sum(({ seconds }) => seconds),
    ...{ recoveryMs, afterHealingMs },
  }
}

export function sumOf(totals: Iterable<Record<string, number>>): Record<string, number> {
  const sum: Record<string, number> = {}
  for (const total of totals) for (const [end, count] of Object.entries(total)) sum[end] = (sum[end] ?? 0) + count
  return sum
}

/** In seconds; null if the sample is of an injection without recovery, which is worse than any number. */
function percentiles(samples: readonly (number | null)[]): Percentiles {
  const sorted = samples.map((ms) => ms ?? Number.POSITIVE_INFINITY).sort((a, b) => a - b)
  const at = (share: number) => {
    const ms = sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * share) - 1)]
    return ms === undefined || !Number.isFinite(ms) ? null : Number((ms / 1000).toFixed(2))
  }
  return { p50: at(0.5), p99: at(0.99) }
}
