/** A small part of `npm run hostile`, with a fixed seed; and that its checks can fail. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import t from 'tap'
import type { LocalSystem } from '../../bench/system/local-system.js'
import { Close } from '../../protocol/close-codes.js'
import { endOfGreeting, endOfSession } from './expected.js'
import { runHostile } from './run.js'
import { isBounded, thirds, Watch } from './watch.js'

const SEED = 4
const PUSHES = 20

t.test('a live system under hostile bytes', { timeout: 240_000 }, async (t) => {
  const options = { frames: 4_000, pushesMin: PUSHES, seed: SEED, folder: t.testdir(), slowOfEach: 0 }
  const result = await runHostile(options)
  t.same(result.firstSurprises, [])
  t.match(result, { exits: 0, wrongDevice: 0, lost: 0, errorsLogged: 0 })
  t.ok(result.pushes >= PUSHES, `${result.pushes} pushes`)
  for (const code of [4000, 4002, 4010, 4012, 4032]) t.ok(result.closes[code], `close ${code} was reached`)
})

t.test('it can fail: memory that grows', async (t) => {
  const megabytes = (make: (i: number) => number) => Array.from({ length: 100 }, (_, i) => make(i) * 2 ** 20)
  t.ok(isBounded(thirds(megabytes((i) => 100 + (i % 5)))))
  t.ok(isBounded(thirds(megabytes((i) => 50 + Math.min(i, 20)))), 'growth of the warm-up does not count')
  t.notOk(isBounded(thirds(megabytes((i) => 100 + i))))
})

t.test('it can fail: a process that ends', async (t) => {
  const child = spawn('sleep', ['60'])
  t.teardown(() => child.kill('SIGKILL'))
  const system = { pids: (victim: string) => (victim === 'worker' ? [child.pid ?? 0] : []) }
  const watch = new Watch(system as unknown as LocalSystem)
  t.teardown(() => watch.stop())
  t.equal(watch.exits, 0)
  child.kill('SIGKILL')
  await once(child, 'exit')
  t.equal(watch.exits, 1)
})

t.test('what has to follow is not what anything would do', async (t) => {
  const bytes = (hex: string) => Buffer.from(hex, 'hex')
  t.equal(endOfGreeting(bytes('0107')), Close.unexpected_frame.code)
  t.equal(endOfGreeting(bytes('017f')), null)
  t.equal(endOfSession(bytes('0107')), null)
  t.equal(endOfGreeting(bytes('')), Close.protocol_error.code)
  t.equal(endOfSession(bytes('')), null)
  t.equal(endOfSession(bytes('0108')), Close.bye.code)
  t.equal(endOfSession(bytes('00')), Close.protocol_error.code)
})
