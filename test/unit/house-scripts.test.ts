import { execFile } from 'node:child_process'
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'

const folder = mkdtempSync(join(tmpdir(), 'borealis-scripts-'))
t.teardown(() => rmSync(folder, { recursive: true }))

const script = (name: string) => import(pathToFileURL(resolve('scripts', name)).href)

function program(path: string): string {
  mkdirSync(join(path, '..'), { recursive: true })
  writeFileSync(path, '#!/bin/sh\n')
  chmodSync(path, 0o755)
  return path
}

t.test('nats-server is taken from NATS_SERVER_BIN, else from PATH; a wrong NATS_SERVER_BIN is refused', async (t) => {
  const { findNatsServer } = (await script('nats-server.mjs')) as { findNatsServer(env: object): string | null }
  const named = program(join(folder, 'named', 'my-nats'))
  const onPath = program(join(folder, 'bin', 'nats-server'))
  t.equal(findNatsServer({ NATS_SERVER_BIN: named, PATH: join(folder, 'bin') }), named)
  t.equal(findNatsServer({ PATH: `/nowhere:${join(folder, 'bin')}` }), onPath)
  t.throws(() => findNatsServer({ NATS_SERVER_BIN: join(folder, 'absent') }), /NATS_SERVER_BIN names .*absent/)
})

interface Suite {
  stdout: string
  failed: string[]
  flaky: string[]
  skipped: number
}

/** Runs these tests as a project of their own, by the real runner and the real tap. The time-out is only a safety net. */
async function runSuite(name: string, tests: Record<string, string>): Promise<Suite> {
  const project = join(folder, name)
  mkdirSync(join(project, 'dist/test'), { recursive: true })
  const write = (file: string, text: string) => writeFileSync(join(project, file), text)
  symlinkSync(realpathSync('node_modules'), join(project, 'node_modules'))
  write('package.json', '{"type":"module","name":"x"}')
  for (const [test, text] of Object.entries(tests)) write(`dist/test/${test}.test.js`, text)
  write(
    'run.mjs',
    `import { runSuite } from ${JSON.stringify(pathToFileURL(resolve('scripts/suite.mjs')).href)}
     const files = ${JSON.stringify(Object.keys(tests).map((test) => `dist/test/${test}.test.js`))}
     const result = await runSuite(process.cwd(), files, { jobs: 2, timeoutSeconds: 100 })
     console.log('RESULT ' + JSON.stringify(result))`,
  )
  // The inner tap must not see the variables of the tap that runs this file.
  const environment = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^(TAP|_TAPJS|NODE_OPTIONS)/.test(name)),
  )
  const { stdout } = await promisify(execFile)(process.execPath, ['run.mjs'], { cwd: project, env: environment })
  const names = (files: string[]) => files.map((file) => /(\w+)\.test\.js$/.exec(file)?.[1] ?? '').sort()
  const { failed, flaky, skipped } = JSON.parse(/^RESULT (.*)$/m.exec(stdout)?.[1] ?? '{}') as Omit<Suite, 'stdout'>
  return { stdout, failed: names(failed), flaky: names(flaky), skipped }
}

const GOOD = `import t from 'tap'; t.test('a', async (t) => { t.equal(1, 1) })`
const BAD = `import t from 'tap'; t.test('outer', (t) => t.test('inner', async (t) => { t.equal(1, 2, 'one is two') }))`

t.test('the test runner fails files that fail, assert nothing, hang, are skipped whole or end early', async (t) => {
  const { stdout, failed, flaky } = await runSuite('broken', {
    hang: `import t from 'tap'; t.setTimeout(500); t.test('a', () => new Promise(() => setInterval(() => 1, 1e3)))`,
    bad: BAD,
    empty: 'export {}',
    skipped: `import t from 'tap'; t.test('a', { skip: true }, async (t) => { t.equal(1, 1) })`,
    left: `import t from 'tap'; t.test('a', async (t) => { t.equal(1, 1); process.exit(0) })`,
    killed: `import t from 'tap'; t.test('a', async (t) => { t.equal(1, 1); process.kill(process.pid, 'SIGKILL') })`,
    good: GOOD,
  })
  t.same(failed, ['bad', 'empty', 'hang', 'killed', 'left', 'skipped'])
  t.same(flaky, [])
  t.match(stdout, /^pass {2}dist\/test\/good\.test\.js/m, 'the time-out of one file leaves the result of another')
  t.match(stdout, /^EMPTY dist\/test\/empty\.test\.js/m)
  t.notMatch(stdout, /once more/, 'many failures are not run again')
  const summary = stdout.slice(stdout.indexOf('==== summary'))
  t.match(summary, /^FAILED dist\/test\/bad\.test\.js: exit code 1$/m)
  t.match(
    summary,
    /outer > inner > one is two\n[\s\S]*-2\n +\+1/,
    'the summary shows the place and the reason of a failure',
  )
  t.match(summary, /^FAILED dist\/test\/killed\.test\.js: ended by SIGKILL$/m)
  t.match(summary, /hang\.test\.js.*\n.*timeout!/)
})

t.test('a file that fails among the others and passes alone is reported as flaky, not as failed', async (t) => {
  const marker = join(folder, 'ran-before')
  const { stdout, failed, flaky } = await runSuite('flaky', {
    bad: BAD,
    good: GOOD,
    sometimes: `import t from 'tap'; import { existsSync, writeFileSync } from 'node:fs'
      t.test('a', async (t) => {
        const before = existsSync(${JSON.stringify(marker)})
        writeFileSync(${JSON.stringify(marker)}, '')
        t.ok(before, 'the second time') })`,
  })
  t.same(failed, ['bad'])
  t.same(flaky, ['sometimes'])
  const summary = stdout.slice(stdout.indexOf('==== summary'))
  t.match(summary, /^FLAKY dist\/test\/sometimes\.test\.js: .*passed when it ran again[\s\S]*a > the second time/m)
  t.match(summary, /^FAILED dist\/test\/bad\.test\.js/m)
})

t.test('skipped tests of a passing file are printed with their reason and counted', async (t) => {
  const skips = `t.test('outer', async (t) => { t.test('inner', { skip: 'no such program' }, async (t) => { t.ok(1) }) })`
  const { stdout, failed, skipped } = await runSuite('skips', {
    good: GOOD,
    some: `${GOOD}; ${skips}`,
    bare: `${GOOD}; t.test('without a reason', { skip: true }, async (t) => { t.ok(1) })`,
  })
  t.same(failed, [])
  t.equal(skipped, 2)
  t.match(stdout, /^pass {2}dist\/test\/some\.test\.js.*\n +outer > inner # SKIP no such program$/m)
  t.match(stdout, /^ +without a reason # SKIP$/m)
})

t.test('the runner ends although a process that a test started still runs', async (t) => {
  t.setTimeout(120_000)
  const pidFile = join(folder, 'left-over.pid')
  const { failed } = await runSuite('leftover', {
    good: `${GOOD}
      import { spawn } from 'node:child_process'
      import { writeFileSync } from 'node:fs'
      const child = spawn(process.execPath, ['-e', 'setTimeout(() => 1, 60_000)'], { stdio: 'inherit', detached: true })
      child.unref()
      writeFileSync(${JSON.stringify(pidFile)}, String(child.pid))`,
  })
  t.same(failed, [])
  // kill() throws if the process is gone: then the runner had waited for it.
  t.ok(process.kill(Number(readFileSync(pidFile, 'utf8')), 'SIGTERM'))
})
