/** Tests of joining the results of several runs of one fault. */
import t from 'tap'
import { joinResults, resultOf } from './result.js'

const verdict = {
  ...{ accepted: 10, rejected: 1, indeterminate: 2, targets: 12, lost: 0, appDuplicates: 0, phantoms: 0 },
  ...{ wireDuplicateShare: 0.1, violations: [] },
}

const run = (seed: number, recoveryMs: (number | null)[], lost = 0, fault = 'core-kill') =>
  resultOf({
    ...{ fault, seed, recoveryMs, afterHealingMs: recoveryMs, ends: { delivered: 9, expired: 1 }, seconds: 5 },
    verdict: { ...verdict, lost },
    violations: lost > 0 ? [`lost: of seed ${seed}`] : [],
  })

t.test('joined results have summed counts, percentiles over all injections, and all violations', async (t) => {
  const joined = joinResults([run(1, [1_000, 2_000]), run(2, [3_000], 1)])
  t.match(joined, {
    ...{ fault: 'core-kill', injections: 3, seeds: [1, 2], accepted: 20, targets: 24, lost: 1, seconds: 10 },
    ...{ ends: { delivered: 18, expired: 2 }, violations: ['lost: of seed 2'] },
    ...{ recoverySeconds: { p50: 2, p99: 3 }, recoveryMs: [1_000, 2_000, 3_000], wireDuplicateShare: 0.1 },
  })
  t.equal(joined.commits.length, 1)
})

t.test('a single result is unchanged by joinResults', async (t) => {
  const joined = joinResults([run(1, [1_000, 2_000]), run(2, [3_000], 1)])
  t.same(joinResults([joined]), joined)
})

t.test('a joined result can be joined again', async (t) => {
  const joined = joinResults([run(1, [1_000, 2_000]), run(2, [3_000], 1)])
  t.same(joinResults([joined, run(3, [1])]).seeds, [1, 2, 3])
})

t.test('an injection without recovery makes the p99 null', async (t) => {
  t.match(joinResults([run(1, [1_000, 1_000]), run(2, [null])]).recoverySeconds, { p50: 1, p99: null })
})

t.test('results of different faults, or none, are refused', async (t) => {
  t.throws(() => joinResults([run(1, [1]), run(2, [1], 0, 'nats-kill')]), RangeError)
  t.throws(() => joinResults([]), RangeError)
})
