/** Tests of `--against COMMIT`: the build of a commit, the rounds of both builds, and the comparison of their figures. */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import Type from 'typebox'
import { buildCommit, resolveCommit } from '../../bench/against/commit-build.js'
import { type CompareOptions, compare } from '../../bench/against/compare.js'
import { compareRounds, comparisonRows, valuesOf } from '../../bench/against/figures.js'
import { Cleanup } from '../../bench/cleanup.js'
import { root } from '../../bench/envelope.js'
import { childrenOf, isAlive } from '../../bench/measure/processes.js'
import { Progress } from '../../bench/progress.js'
import { fieldNames } from '../../bench/reference.js'
import { scenarios } from '../../bench/scenarios/index.js'

// Some tests start real systems, on a machine that may be busy.
t.setTimeout(240_000)

/** Outside of this repository, because git finds the repository from any folder in it. */
const scratch = mkdtempSync(join(tmpdir(), 'borealis-against-'))
t.teardown(() => rmSync(scratch, { recursive: true, force: true }))

/**
 * The source of a bench that reports COSTS one after the other, and logs its folder and arguments to the file
 * FAKE_BENCH_LOG. BEHAVIOUR runs first.
 */
const FAKE_BENCH = `
const { appendFileSync, existsSync, readFileSync, writeFileSync } = require('node:fs')
const args = process.argv.slice(2)
if (args[1] === '--help') {
  console.log('Usage: bench ' + (args[0] === 'try' ? 'try ' : '') + '[options]\\n  --json <file>\\n  --size <number>\\n  --in-turns')
  process.exit()
}
BEHAVIOUR
const counter = __dirname + '/runs'
const run = existsSync(counter) ? Number(readFileSync(counter, 'utf8')) : 0
writeFileSync(counter, String(run + 1))
appendFileSync(process.env.FAKE_BENCH_LOG, JSON.stringify([process.cwd(), ...args]) + '\\n')
console.error('bench: measuring')
console.log(JSON.stringify({ commit: 'c', result: { cost: COSTS[run], latencyMs: { p99: 5 }, text: 'a', samples: [{ n: 1 }] } }))
`

const fakeBench = (costs: readonly number[], behaviour = '') =>
  FAKE_BENCH.replace('COSTS', JSON.stringify(costs)).replace('BEHAVIOUR', behaviour)

/** The source of a scripts/prepare.mjs that builds this bench. */
const prepareOf = (bench: string) => `
import { mkdirSync, writeFileSync } from 'node:fs'
mkdirSync('dist/bench', { recursive: true })
writeFileSync('dist/package.json', '{"type":"commonjs"}')
writeFileSync('dist/bench/cli.js', ${JSON.stringify(bench)})
console.log('built it')
`

/** A repository with a tagged commit for each script. A commit with null has no script. */
function createRepository(name: string, scripts: Record<string, string | null>): string {
  const folder = join(scratch, name)
  mkdirSync(join(folder, 'scripts'), { recursive: true })
  const git = (...args: string[]) =>
    execFileSync('git', ['-C', folder, '-c', 'user.name=n', '-c', 'user.email=e', ...args], { stdio: 'pipe' })
  git('init', '--quiet')
  for (const [tag, script] of Object.entries(scripts)) {
    const file = join(folder, 'scripts', 'prepare.mjs')
    if (script === null) rmSync(file, { force: true })
    else writeFileSync(file, script)
    git('add', '--all')
    git('commit', '--quiet', '--allow-empty', '--message', tag)
    git('tag', tag)
  }
  return folder
}

/** A bench that collects its progress, and runs its cleanup at end(). */
function bench() {
  const cleanup = new Cleanup()
  let output = ''
  const progress = new Progress({
    write: (text) => {
      output += text
    },
  })
  t.teardown(() => cleanup.run(() => undefined))
  return {
    progress,
    defer: (undo: () => unknown) => cleanup.defer(undo),
    output: () => output,
    end: () => cleanup.run((error) => t.error(error as Error)),
  }
}

/** A tree with a built fake bench. */
function buildTree(name: string, costs: readonly number[], behaviour = ''): string {
  const folder = join(scratch, name)
  mkdirSync(join(folder, 'dist', 'bench'), { recursive: true })
  writeFileSync(join(folder, 'dist', 'package.json'), '{"type":"commonjs"}')
  writeFileSync(join(folder, 'dist', 'bench', 'cli.js'), fakeBench(costs, behaviour))
  return folder
}

const TRY = {
  name: 'try',
  options: Type.Object({ size: Type.Integer({ default: 3 }), inTurns: Type.Boolean({ default: false }) }),
}

function compareOptions(tree: string, commit: string, more: Partial<CompareOptions> = {}): CompareOptions {
  return {
    tree: { name: 'this tree', folder: tree },
    commit: { name: 'commit abc', folder: commit, hash: 'abc' },
    scenario: TRY,
    parameters: { size: 3, inTurns: true },
    given: [],
    rounds: 3,
    ...more,
  }
}

t.test('a commit is found by tag, abbreviated hash and relative name', async (t) => {
  const folder = createRepository('names', { one: null, two: null })
  const run = bench()
  const hash = await resolveCommit(run, folder, 'one')
  t.match(hash, /^[0-9a-f]{40}$/)
  t.equal(await resolveCommit(run, folder, hash.slice(0, 10)), hash)
  t.equal(await resolveCommit(run, folder, 'HEAD~1'), hash)
})

t.test('an unknown commit, an option or a path is refused as unknown_commit', async (t) => {
  const folder = createRepository('unknown-names', { one: null })
  const run = bench()
  for (const name of ['three', '--all', '', 'one:scripts']) {
    await t.rejects(resolveCommit(run, folder, name), { code: 'unknown_commit' }, name)
  }
})

t.test('a folder that is not the root of a repository is refused as no_repository', async (t) => {
  const folder = createRepository('roots', { one: null })
  const run = bench()
  await t.rejects(resolveCommit(run, join(folder, 'scripts'), 'one'), { code: 'no_repository' })
  mkdirSync(join(scratch, 'plain'))
  await t.rejects(resolveCommit(run, join(scratch, 'plain'), 'one'), { code: 'no_repository' })
})

t.test('the clone of a commit is built by its own scripts, and removed at the end of the run', async (t) => {
  const folder = createRepository('build', { one: prepareOf('// one'), two: prepareOf('// two') })
  const cache = join(scratch, 'build-cache')
  const run = bench()
  const hash = await resolveCommit(run, folder, 'one')
  const build = await buildCommit(run, folder, hash, { keep: false, cache })
  t.equal(readFileSync(join(build, 'dist/bench/cli.js'), 'utf8'), '// one')
  t.match(run.output(), /installing packages and building\n.*: built it/)
  await run.end()
  t.same(readdirSync(cache), [])
  t.match(run.output(), new RegExp(`commit ${hash.slice(0, 12)}: removed its build \\(--keep-build`))
})

t.test('a kept build serves later runs, and is not removed by them', async (t) => {
  const folder = createRepository('keep', { one: prepareOf('// one') })
  const cache = join(scratch, 'keep-cache')
  const first = bench()
  const hash = await resolveCommit(first, folder, 'one')
  const build = await buildCommit(first, folder, hash, { keep: true, cache })
  await first.end()
  t.same(readdirSync(cache), [hash])
  writeFileSync(join(build, 'mark'), '')
  const second = bench()
  t.equal(await buildCommit(second, folder, hash, { keep: false, cache }), build)
  await second.end()
  t.ok(existsSync(join(build, 'mark')), 'it was not built again')
  t.notMatch(second.output(), /cloning/)
})

t.test('a commit that cannot be built is reported with the last lines of its build', async (t) => {
  const folder = createRepository('broken', {
    fails:
      'for (let i = 0; i < 99; i++) console.log("line " + i)\nconsole.error("there is no compiler"); process.exit(3)',
    old: null,
  })
  const cache = join(scratch, 'broken-cache')
  const run = bench()
  const build = async (name: string) =>
    buildCommit(run, folder, await resolveCommit(run, folder, name), { keep: true, cache })
  await t.rejects(build('fails'), {
    code: 'build_failed',
    message: /^build_failed: .*\n[\s\S]*line 98[\s\S]*no compiler/,
  })
  await t.rejects(build('old'), { code: 'build_failed', message: /has no scripts\/prepare\.mjs/ })
  await run.end()
  t.same(readdirSync(cache), [])
})

t.test('a cache folder to which other users may write is refused', async (t) => {
  const cache = join(scratch, 'open-cache')
  mkdirSync(cache)
  chmodSync(cache, 0o777)
  await t.rejects(buildCommit(bench(), scratch, 'abc', { keep: true, cache }), {
    code: 'build_failed',
    message: /write/,
  })
})

t.test('both builds run in turns with the same flags, and give medians, spread and ratio', async (t) => {
  const log = join(scratch, 'turns.log')
  process.env.FAKE_BENCH_LOG = log
  const run = bench()
  const tree = buildTree('turns-tree', [30, 10, 20])
  const commit = buildTree('turns-commit', [8, 10, 40])
  const { figures, notCompared, rounds } = await compare(run, compareOptions(tree, commit))
  const lines = readFileSync(log, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as string[])
  t.same(
    lines.map(([folder = '']) => basename(folder)),
    ['turns-tree', 'turns-commit', 'turns-tree', 'turns-commit', 'turns-tree', 'turns-commit'],
  )
  for (const [, ...args] of lines) t.same(args, ['try', '--size', '3', '--in-turns', '--json', '-'])
  t.same(figures.cost, {
    tree: { median: 20, min: 10, max: 30 },
    commit: { median: 10, min: 8, max: 40 },
    ratioToCommit: 2,
    roundRatios: { min: 0.5, max: 3.75 },
  })
  t.same(Object.keys(figures), ['cost', 'latencyMs.p99'], 'texts and samples are no figures')
  t.same(notCompared, [])
  t.same(
    rounds.map(({ tree, commit }) => [tree.cost, commit.cost]),
    [
      [30, 8],
      [10, 10],
      [20, 40],
    ],
  )
  t.match(run.output(), /round 2 of 3, commit abc: measuring/)
})

t.test('a figure that one side lacks is listed as not compared, and a ratio to 0 is null', async (t) => {
  const { figures, notCompared } = compareRounds([
    { tree: { lost: 1, fresh: 2 }, commit: { lost: 0 } },
    { tree: { lost: 0, fresh: 2 }, commit: { lost: 0 } },
  ])
  t.same(notCompared, ['fresh'])
  t.match(figures, { lost: { tree: { median: 0.5 }, ratioToCommit: null, roundRatios: null } })
})

t.test('the table of a comparison has a row for each requested figure that was compared', async (t) => {
  const { figures, notCompared } = compareRounds([
    { tree: { lost: 1 }, commit: { lost: 0 } },
    { tree: { lost: 0 }, commit: { lost: 0 } },
  ])
  const comparison = { of: 'try', tree: 'x', commit: 'abc', figures, notCompared, rounds: [] }
  t.same(comparisonRows(comparison, ['lost']), [
    { figure: 'lost', 'this tree': '0.5 (0..1)', 'commit abc': '0 (0..0)', ratio: '-', 'ratio in each round': '-' },
  ])
  t.same(comparisonRows(comparison, ['other']), [])
})

t.test('valuesOf gives the numbers of a result by their paths, without lists', async (t) => {
  t.same(valuesOf({ a: { b: 1 }, list: [2, { c: 3 }], none: null }), { 'a.b': 1 })
})

t.test('an option that the commit does not know is refused if it was given, and left out otherwise', async (t) => {
  process.env.FAKE_BENCH_LOG = join(scratch, 'unknown.log')
  const [tree, commit] = [buildTree('unknown-tree', [1]), buildTree('unknown-commit', [1])]
  const parameters = { size: 3, inTurns: false, newThing: 7 }
  const more = { parameters, rounds: 1 }
  await t.rejects(compare(bench(), compareOptions(tree, commit, { ...more, given: ['newThing'] })), {
    code: 'not_comparable',
    message: /does not know --new-thing/,
  })
  const run = bench()
  await compare(run, compareOptions(tree, commit, more))
  t.match(run.output(), /commit abc does not know --new-thing: this tree uses its defaults/)
  t.match(readFileSync(process.env.FAKE_BENCH_LOG, 'utf8'), /"try","--size","3","--json","-"/)
  await t.rejects(compare(bench(), compareOptions(tree, commit, { scenario: { ...TRY, name: 'other' } })), {
    code: 'not_comparable',
    message: /no scenario other/,
  })
})

t.test('a run that fails is reported as run_failed with its last lines', async (t) => {
  process.env.FAKE_BENCH_LOG = join(scratch, 'failing.log')
  const tree = buildTree('failing-tree', [1, 1, 1])
  const fails = buildTree('fails', [1], 'console.error("bench: too few sockets"); process.exit(1)')
  await t.rejects(compare(bench(), compareOptions(tree, fails)), {
    code: 'run_failed',
    message: /round 1 of 3, commit abc failed[\s\S]*too few sockets/,
  })
})

t.test('a run without a result is reported as run_failed', async (t) => {
  process.env.FAKE_BENCH_LOG = join(scratch, 'without-result.log')
  const tree = buildTree('without-result-tree', [1, 1, 1])
  const commit = buildTree('without-result', [1], 'console.log("{"); process.exit(0)')
  await t.rejects(compare(bench(), compareOptions(tree, commit)), {
    code: 'run_failed',
    message: /ended without a result/,
  })
})

for (const signal of ['SIGINT', 'SIGTERM', 'SIGKILL'] as const) {
  t.test(`${signal} to a comparison ends the running bench and the processes that it started`, async (t) => {
    const slow = `
      const child = require('node:child_process').spawn('sleep', ['600'])
      process.on('SIGTERM', () => { child.kill(); process.exit(1) })
      require('node:fs').writeFileSync(__dirname + '/child', String(child.pid))
      console.error('bench: up')
      return setInterval(() => 1, 1000)`
    const tree = buildTree(`slow-${signal}`, [], slow)
    const run = new URL('../../bench/run.js', import.meta.url).href
    const against = new URL('../../bench/against/compare.js', import.meta.url).href
    const { scenario, ...options } = compareOptions(tree, tree)
    const given = JSON.stringify({ ...options, scenario: { name: scenario.name } })
    const comparison = spawn(
      process.execPath,
      [
        ...['--input-type=module', '-e'],
        `import { runWithCleanup } from ${JSON.stringify(run)}
         import { compare } from ${JSON.stringify(against)}
         await runWithCleanup('against', (bench) => compare(bench, ${given}), { base: ${JSON.stringify(scratch)} })`,
      ],
      { stdio: ['ignore', 'inherit', 'pipe'] },
    )
    let output = ''
    for await (const line of createInterface({ input: comparison.stderr })) {
      output += `${line}\n`
      if (line.endsWith(': up')) break
    }
    comparison.stderr.resume()
    const grandchild = Number(readFileSync(join(tree, 'dist/bench/child'), 'utf8'))
    const running = [...childrenOf(comparison.pid ?? 0), grandchild]
    t.ok(running.length >= 2 && running.every(isAlive), output)
    comparison.kill(signal)
    const [code, by] = (await once(comparison, 'exit')) as [number | null, string | null]
    t.equal(by ?? code, { SIGINT: 130, SIGTERM: 143, SIGKILL: 'SIGKILL' }[signal])
    const deadline = performance.now() + 30_000
    while (running.some(isAlive) && performance.now() < deadline)
      await new Promise((resolve) => setTimeout(resolve, 50))
    t.same(running.filter(isAlive), [])
  })
}

t.test('a comparison of this tree with itself has the same connections and measures CPU', async (t) => {
  const scenario = scenarios.find(({ name }) => name === 'connect')
  if (!scenario) throw new RangeError('there is no connect')
  const parameters = { connections: 10, rounds: 1, inFlight: 10, workers: 1, generators: 1 }
  const { figures, notCompared, tree } = await compare(
    bench(),
    compareOptions(root, root, { scenario, parameters, rounds: 1 }),
  )
  t.same(notCompared, [])
  t.match(tree, /^[0-9a-f]{7,}|unknown/)
  t.match(figures.connections, { ratioToCommit: 1, tree: { min: 10, max: 10 } })
  const { min = 0, max = 0 } = figures.fullCpuMicros?.tree ?? {}
  t.ok(min > 0 && max === min, 'CPU was measured')
})

const cli = fileURLToPath(new URL('../../bench/cli.js', import.meta.url))

t.test('the command line refuses an unknown commit and a wrong number of rounds', async (t) => {
  const run = async (...args: string[]) => {
    const child = spawn(process.execPath, [cli, 'idle', ...args], {
      cwd: dirname(cli),
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let [stdout, stderr] = ['', '']
    child.stdout.on('data', (text) => (stdout += text))
    child.stderr.on('data', (text) => (stderr += text))
    const [code] = (await once(child, 'close')) as [number]
    return { code, stdout, stderr }
  }
  const unknown = await run('--against', 'no-such-commit', '--json', '-')
  t.match(unknown, { code: 1, stdout: '' })
  t.match(unknown.stderr, /^bench: (unknown_commit|no_repository): /m)
  t.match(await run('--against', 'HEAD', '--against-rounds', '0'), { code: 1, stderr: /integer from 1 to 101/ })
})

t.test('the figures that a comparison shows are fields of the result', async (t) => {
  const withHeadline = scenarios.filter(({ headline }) => headline !== undefined)
  t.same(withHeadline.map(({ name }) => name).sort(), ['connect', 'idle', 'pipeline', 'unicast'])
  for (const { name, headline = [], result } of withHeadline) {
    const fields = fieldNames(result)
    t.same(
      headline.filter((field) => !fields.includes(field)),
      [],
      name,
    )
  }
})
