import { execFile } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
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

t.test('nats-server: NATS_SERVER_BIN, then PATH', async (t) => {
  const { findNatsServer } = (await script('nats-server.mjs')) as { findNatsServer(env: object): string | null }
  const named = program(join(folder, 'named', 'my-nats'))
  const onPath = program(join(folder, 'bin', 'nats-server'))
  t.equal(findNatsServer({ NATS_SERVER_BIN: named, PATH: join(folder, 'bin') }), named)
  t.equal(findNatsServer({ PATH: `/nowhere:${join(folder, 'bin')}` }), onPath)
  t.throws(() => findNatsServer({ NATS_SERVER_BIN: join(folder, 'absent') }), /NATS_SERVER_BIN names .*absent/)
})

/** A project of four tests, run by the real runner and the real tap. */
t.test('the runner of the tests fails what fails, asserts nothing, or hangs', async (t) => {
  const project = join(folder, 'project')
  mkdirSync(join(project, 'dist/test'), { recursive: true })
  const write = (name: string, text: string) => writeFileSync(join(project, name), text)
  symlinkSync(realpathSync('node_modules'), join(project, 'node_modules'))
  write('package.json', '{"type":"module","name":"x"}')
  write('.taprc', 'disable-coverage: true\nallow-empty-coverage: true\ntimeout: 6\nexclude: []\n')
  write('dist/test/good.test.js', `import t from 'tap'; t.test('a', async (t) => { t.equal(1, 1) })`)
  write('dist/test/bad.test.js', `import t from 'tap'; t.test('a', async (t) => { t.equal(1, 2) })`)
  write('dist/test/empty.test.js', 'export {}')
  write(
    'dist/test/hang.test.js',
    `import t from 'tap'; t.test('a', () => new Promise(() => setInterval(() => 1, 1e3)))`,
  )
  write(
    'run.mjs',
    `import { runTap } from ${JSON.stringify(pathToFileURL(resolve('scripts/tap.mjs')).href)}
     const files = ['good', 'bad', 'empty', 'hang'].map((name) => 'dist/test/' + name + '.test.js')
     console.log('RESULT ' + JSON.stringify((await runTap(process.cwd(), files)).sort()))`,
  )
  // Without the variables of the tap that runs this very test.
  const environment = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^(TAP|_TAPJS|NODE_OPTIONS)/.test(name)),
  )
  const run = promisify(execFile)
  const { stdout } = await run(process.execPath, ['run.mjs'], { cwd: project, env: environment })
  const result = /^RESULT (.*)$/m.exec(stdout)?.[1] ?? ''
  t.same(
    JSON.parse(result),
    ['bad', 'empty', 'hang'].map((name) => `dist/test/${name}.test.js`),
  )
  t.match(stdout, /^pass {2}dist\/test\/good\.test\.js/m)
  t.match(stdout, /^EMPTY dist\/test\/empty\.test\.js/m)
  t.match(stdout, /should be equal[\s\S]*\+2|-1[\s\S]*\+2|expected/, 'a failure is shown with its reason')
})
