import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { Value } from 'typebox/value'
import { Child } from '../../src/cli/start/child.js'
import { DataFolder } from '../../src/cli/start/folder.js'
import { Output } from '../../src/cli/start/output.js'
import { claimPorts } from '../../src/cli/start/ports.js'
import { fitStoreTo } from '../../src/cli/start/storage.js'
import { pushCommand } from '../../src/cli/start/summary.js'
import { readConfig } from '../../src/config/config.js'
import { streamDefinitions } from '../../src/nats/server/streams.js'
import { StoreSettings } from '../../src/nats/settings.js'

const folder = mkdtempSync(join(tmpdir(), 'borealis-start-'))
t.teardown(() => rmSync(folder, { recursive: true }))

const claim = (port: number, setting = 'http.port') => ({ host: '127.0.0.1', port, setting, variable: 'BOREALIS_X' })

t.test('ports in use are reported together, each with its setting', async (t) => {
  const taken = createServer().listen(0, '127.0.0.1')
  await once(taken, 'listening')
  t.teardown(() => taken.close())
  const { port } = taken.address() as { port: number }
  await t.rejects(claimPorts([claim(port), claim(0), claim(port, 'transport.port')]), {
    name: 'CommandError',
    message: new RegExp(`port ${port} on 127.0.0.1 is in use.*http.port, BOREALIS_X[\\s\\S]*transport.port`),
  })
})

t.test('port 0 gets any free port, and the port is free afterwards', async (t) => {
  const [first = 0, second = 0] = await claimPorts([claim(0), claim(0)])
  t.ok(first > 0 && second > 0)
  t.same(await claimPorts([claim(first)]), [first])
})

t.test('a file of the data folder is readable by its owner alone, and reads as it was written', async (t) => {
  const data = DataFolder.claim(join(folder, 'data'))
  data.write('secret.json', { a: 1 })
  t.same(data.read('secret.json'), { a: 1 })
  t.equal(data.read('absent.json'), null)
  t.equal(statSync(data.file('secret.json')).mode & 0o077, 0)
  data.release()
})

t.test('a damaged file of the data folder is refused', async (t) => {
  const data = DataFolder.claim(join(folder, 'data-damaged'))
  data.writeText('broken.json', '{')
  t.throws(() => data.read('broken.json'), { name: 'CommandError', message: /damaged/ })
  data.release()
})

t.test('a data folder whose owner process is gone can be claimed', async (t) => {
  const path = join(folder, 'data-abandoned')
  const data = DataFolder.claim(path)
  data.write('start.json', { pid: 2 ** 22 + 1 })
  t.ok(DataFolder.claim(path))
  data.release()
})

t.test('a data folder whose owner process runs is refused, with the id of that process', async (t) => {
  const program = join(folder, 'borealis-sleeper.mjs')
  writeFileSync(program, 'process.stdin.resume()')
  const owner = spawn(process.execPath, [program], { stdio: ['pipe', 'ignore', 'inherit'] })
  await once(owner, 'spawn')
  t.teardown(() => owner.kill())
  const path = join(folder, 'owned')
  DataFolder.claim(path).write('start.json', { pid: owner.pid })
  t.throws(() => DataFolder.claim(path), {
    name: 'CommandError',
    message: new RegExp(`process ${owner.pid} already runs Borealis in`),
  })
})

t.test('the output shows warnings and raw lines of the parts, and hides info lines', async (t) => {
  const shown: string[] = []
  const output = new Output((text) => shown.push(text))
  output.part('core', '{"level":"info","part":"core","message":"ready"}')
  output.part('core', '{"level":"warn","part":"core","message":"slow"}')
  output.part('core', 'Segmentation fault')
  t.equal(shown.length, 2)
  t.match(shown.join(''), /slow[\s\S]*core: Segmentation fault/)
})

t.test('the printed push command is one line with project, token and registration', async (t) => {
  const sample = { project: 'sample', clientId: 'c', application: 'a', enrolmentKey: 'e' }
  const serviceKey = { keyId: 'k', alg: 'RS256', privateKey: '' } as const
  const line = pushCommand('http://127.0.0.1:1', { ...sample, serviceKey }, 'tok', 'reg')
  t.notMatch(line, /\n/)
  t.match(line, /^(curl|node) .*projects\/sample\/messages.*Bearer tok.*reg/)
})

t.test('a large disk leaves the stream sizes as they are set', async (t) => {
  const store = Value.Create(StoreSettings)
  const large = fitStoreTo(store, 1e12)
  t.same(large.store, store)
  t.equal(large.notice, null)
  t.same(large.environment, {})
})

t.test('on a small disk the streams shrink to three quarters of it, and the core gets the same sizes', async (t) => {
  const store = Value.Create(StoreSettings)
  const small = fitStoreTo(store, 4e9)
  const total = streamDefinitions(small.store).reduce((sum, { bytesMax }) => sum + bytesMax, 0)
  t.ok(total <= 3e9 && total > 2.9e9, 'three quarters of the disk')
  t.ok(small.fileBytesMax > total)
  t.match(small.notice, /room for 3\.0 GB of streams, not for \d+\.\d GB/)
  t.same(readConfig({ environment: small.environment }).store, small.store)
})

function child(source: string, more: { onNotice?: (text: string) => void; onLost?: (text: string) => void } = {}) {
  const program = join(folder, `${Math.floor(performance.now() * 1000)}.mjs`)
  writeFileSync(program, source)
  const lines: string[] = []
  const part = new Child({
    name: 'part',
    program,
    args: [],
    environment: {},
    onLine: (line) => lines.push(line),
    onNotice: more.onNotice ?? (() => undefined),
    onLost: more.onLost ?? (() => undefined),
  })
  return { part, lines }
}

const reportReady = "process.send({ ready: { port: 7 } }); process.on('disconnect', () => process.exit());"

t.test('a child starts when it reports ready, and its process is gone after stop', async (t) => {
  const { part } = child(`${reportReady} setInterval(() => {}, 1000)`)
  t.same(await part.start(), { port: 7 })
  const pid = part.pid ?? 0
  await part.stop()
  t.throws(() => process.kill(pid, 0), { code: 'ESRCH' })
})

t.test('start() rejects with the last lines of a child that ends before it is ready', async (t) => {
  const { part } = child("console.error('no such database'); process.exitCode = 3")
  await t.rejects(part.start(), { message: /part ended with code 3[\s\S]*no such database/ })
})

t.test('a child that crashes is started again, and lost after five crashes in a row', async (t) => {
  const notices: string[] = []
  const lost = new Promise<string>((resolve) => {
    const { part } = child(`${reportReady} setTimeout(() => process.exit(9), 20)`, {
      onNotice: (text) => notices.push(text),
      onLost: resolve,
    })
    void part.start()
  })
  t.match(await lost, /part crashed 5 times in a row \(last: code 9\)/)
  t.match(notices[0], /ended unexpectedly \(code 9\)/)
  t.match(notices[1], /is back/)
})
