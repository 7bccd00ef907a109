/** Runs the first seeds of the simulation in the test suite; `npm run sim` runs any number of them. */
import t from 'tap'
import { runSeeds } from './pool.js'
import { runSeed } from './run.js'

const SEEDS = 30

t.test(`seeds 1 to ${SEEDS} violate no invariant`, async (t) => {
  const { seeds, violations } = await runSeeds({ first: 1, count: SEEDS })
  t.equal(seeds, SEEDS)
  t.same(violations, [])
})

t.test('two runs of one seed, with and without trace lines, have the same digest', async (t) => {
  for (const seed of [2, 3]) {
    const [one, two] = [await runSeed(seed), await runSeed(seed, true)]
    t.equal(one.digest, two.digest)
    t.ok(two.lines.length > 100)
  }
})

t.test('runs of two seeds have different digests', async (t) => {
  const [one, two] = [await runSeed(4), await runSeed(5)]
  t.not(one.digest, two.digest)
})

t.test('an interrupted run finishes the batches that it began, and starts no other', async (t) => {
  const interruption = new AbortController()
  const options = { processesMax: 2, signal: interruption.signal, onProgress: () => interruption.abort() }
  const { seeds, violations } = await runSeeds({ first: 1, count: 10_000 }, options)
  t.ok(seeds >= 10 && seeds <= 30, `${seeds} seeds: one or two batches in each process`)
  t.same(violations, [])
})
