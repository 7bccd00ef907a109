/** Tests of `bench hold`: runs with little memory, and its estimates, picks and paces. */
import { readdirSync } from 'node:fs'
import t, { type Test } from 'tap'
import { checkResult } from '../../bench/envelope.js'
import { pickOptions } from '../../bench/flags.js'
import { Pace } from '../../bench/generator/pace.js'
import { estimate, type Footprint, type Stages } from '../../bench/hold/footprint.js'
import { MemoryWatch } from '../../bench/hold/memory-watch.js'
import { HoldRun } from '../../bench/hold/run.js'
import { pickDevice } from '../../bench/pick.js'
import { Progress } from '../../bench/progress.js'
import { runScenario } from '../../bench/run.js'
import { scenarios } from '../../bench/scenarios/index.js'
import { sizesOf } from '../../bench/scenarios/scale.js'
import { leftChildren } from './support/left-children.js'

// Some tests start systems of several processes, on a machine that may be busy.
t.setTimeout(240_000)

const GIB = 2 ** 30

/** Runs the scenario on a machine that reports this available memory. */
async function holdWith(t: Test, availableBytes: () => number): Promise<Record<string, unknown>> {
  const scenario = scenarios.find(({ name }) => name === 'hold')
  if (!scenario) throw new RangeError('there is no hold')
  const options = pickOptions(scenario.options, {
    connections: 40,
    minutes: 0.02,
    pushes: 20,
    pushRate: 20,
    flowRate: 5,
    workers: 1,
    keepaliveSeconds: 5,
    // The slow ramp lets the bench read the memory before all devices are connected.
    rampPerSecond: 20,
  })
  const base = t.testdir()
  const run: typeof scenario.run = (bench, given) => new HoldRun(bench, given as never, availableBytes).run()
  const quiet = { progress: new Progress(process.stderr, true), signals: false, base }
  const result = await runScenario({ ...scenario, run }, options, quiet)
  checkResult(scenario, result)
  t.same(await leftChildren(), [], 'every process has ended')
  t.same(readdirSync(base), [], 'the folder of the run is removed')
  return result
}

t.test('with little memory left no more devices connect, and the result is complete for those that did', async (t) => {
  const result = await holdWith(t, () => GIB)
  t.match(result, { failure: '', limit: /^memory: with \d+ devices 1,024 MiB were available/, wanted: 40, lost: 0 })
  t.ok((result.connections as number) > 0)
  t.match(result, { pushes: { lost: 0 }, rollingRestart: { lost: 0 } })
})

t.test('a run below the memory floor ends early, and its result has the figures so far', async (t) => {
  let left = 8 * GIB
  // The bench reads the memory ten times before any device connects.
  const result = await holdWith(t, () => {
    left -= GIB / 2
    return Math.max(left, GIB / 4)
  })
  t.match(result, { failure: /only 256 MiB of memory are available/, rollingRestart: null })
  t.equal(result.lowestAvailableBytes, GIB / 4)
})

t.test('addressees are picked among all connected devices, and only among these', async (t) => {
  const ranges = [
    { first: 0, count: 3 },
    { first: 10, count: 0 },
    { first: 20, count: 2 },
  ]
  const picked = new Set(Array.from({ length: 100 }, (_, n) => pickDevice(n, ranges)))
  t.same(
    [...picked].sort((a, b) => a - b),
    [0, 1, 2, 20, 21],
  )
  t.throws(() => pickDevice(0, [{ first: 5, count: 0 }]), RangeError)
})

t.test('an estimate adds the memory of processes alone and of their connections', async (t) => {
  const footprint = (over: Partial<Footprint>): Footprint => ({
    connections: 0,
    serverRssBytes: 0,
    serverPssBytes: 0,
    coreRssBytes: 0,
    natsRssBytes: 0,
    generatorRssBytes: 0,
    serverPrivateBytes: 0,
    generatorPrivateBytes: 0,
    generatorPssBytes: 0,
    kernelBytes: 0,
    usedBytes: 0,
    availableBytes: 0,
    ...over,
  })
  const stages: Stages = {
    empty: footprint({ usedBytes: 1_000 }),
    started: footprint({ serverPssBytes: 300, serverPrivateBytes: 200, natsRssBytes: 50 }),
    ready: footprint({ generatorPssBytes: 40, generatorPrivateBytes: 30 }),
    held: footprint({
      connections: 10,
      serverPrivateBytes: 300,
      natsRssBytes: 70,
      coreRssBytes: 5,
      generatorPrivateBytes: 50,
      kernelBytes: 70,
    }),
  }
  const sizing = {
    workers: (count: number) => (count > 10 ? 4 : 2),
    generators: (count: number) => (count > 10 ? 3 : 1),
    machineBytes: 3_840,
    reserveBytes: 100,
  }
  t.match(estimate(100, stages, sizing), {
    workers: 4,
    generators: 3,
    serverBytes: 100 + 4 * 100 + 100 * 10,
    natsBytes: 50 + 100 * 2,
    coreBytes: 5,
    generatorBytes: 10 + 3 * 30 + 100 * 2,
    kernelBytes: 700,
    totalBytes: 1_000 + 1_500 + 250 + 5 + 300 + 700,
    fits: false,
  })
  t.ok(estimate(10, stages, sizing).fits)
})

t.test('the memory watch remembers low memory, and rejects below the floor', async (t) => {
  let left = 100
  const watch = new MemoryWatch(50, 10, () => left)
  t.teardown(() => watch.stop())
  t.notOk(watch.isLow)
  left = 5
  await t.rejects(watch.emergency, { message: /memory/ })
  t.ok(watch.isLow)
})

t.test('a pace shows the rate of the last seconds and the time left', async (t) => {
  let nowMs = 0
  const pace = new Pace(10_000, () => nowMs)
  t.equal(pace.text(0), '')
  nowMs = 1_000
  t.equal(pace.text(2_000), ' (2,000 a second, 4 s left)')
  for (nowMs = 2_000; nowMs <= 20_000; nowMs += 1_000) pace.text(2_000 + nowMs / 10)
  t.match(pace.text(5_000), / a second, \d+ s left/)
})

t.test('the sizes of scale are accepted in ascending order, and refused otherwise', async (t) => {
  t.same(sizesOf('10, 20,300'), [10, 20, 300])
  for (const wrong of ['', '10,10', '20,10', 'x', '10,', '2000000', '-1,5', '1.5'])
    t.throws(() => sizesOf(wrong), wrong)
})
