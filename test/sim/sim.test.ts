/** A short, fixed part of the simulation; `npm run sim` runs as many seeds as wanted. */
import t from 'tap'
import { runSeeds } from './pool.js'
import { runSeed } from './run.js'

const SEEDS = 30

t.test('the invariants hold over some seeds', async (t) => {
  const { seeds, violations } = await runSeeds({ first: 1, count: SEEDS })
  t.equal(seeds, SEEDS)
  t.same(violations, [])
})

t.test('the same seed is the same run', async (t) => {
  for (const seed of [2, 3]) {
    const [one, two] = [await runSeed(seed), await runSeed(seed, true)]
    t.equal(one.digest, two.digest)
    t.ok(two.lines.length > 100)
  }
})

t.test('another seed is another run', async (t) => {
  const [one, two] = [await runSeed(4), await runSeed(5)]
  t.not(one.digest, two.digest)
})

t.test('a run that is cut is of the seeds that were begun, all of them', async (t) => {
  const cut = new AbortController()
  const options = { processesMax: 2, signal: cut.signal, onProgress: () => cut.abort() }
  const { seeds, violations } = await runSeeds({ first: 1, count: 10_000 }, options)
  t.ok(seeds >= 10 && seeds <= 30, `${seeds} seeds: a batch or two in each process`)
  t.same(violations, [])
})
