/** A short `npm run hostile` with a fixed seed, and tests that its checks can fail. */
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

t.test(
  'under 4,000 hostile frames no process ends, no push is lost, and no close differs from PROTOCOL.md',
  { timeout: 240_000 },
  async (t) => {
    const options = { frames: 4_000, pushesMin: PUSHES, seed: SEED, folder: t.testdir(), slowOfEach: 0 }
    const result = await runHostile(options)
    t.same(result.firstSurprises, [])
    t.match(result, { exits: 0, wrongDevice: 0, lost: 0, errorsLogged: 0 })
    t.ok(result.pushes >= PUSHES, `${result.pushes} pushes were accepted`)
    for (const code of [4000, 4002, 4010, 4012, 4032]) t.ok(result.closes[code], `close ${code} was reached`)
  },
)

const megabytes = (sizeAt: (i: number) => number) => Array.from({ length: 100 }, (_, i) => sizeAt(i) * 2 ** 20)

t.test('memory that stays level or grows during the warm-up is bounded', async (t) => {
  t.ok(isBounded(thirds(megabytes((i) => 100 + (i % 5)))), 'level')
  t.ok(isBounded(thirds(megabytes((i) => 50 + Math.min(i, 20)))), 'growth of the warm-up')
})

t.test('memory that doubles during the run is not bounded', async (t) => {
  t.notOk(isBounded(thirds(megabytes((i) => 100 + i))))
})

t.test('a process that ends counts as one exit', async (t) => {
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

const bytes = (hex: string) => Buffer.from(hex, 'hex')

t.test('the expected close before HELLO depends on the message', async (t) => {
  t.equal(endOfGreeting(bytes('0107')), Close.unexpected_frame.code, 'PING')
  t.equal(endOfGreeting(bytes('017f')), null, 'a frame of an unknown type')
  t.equal(endOfGreeting(bytes('')), Close.protocol_error.code, 'an empty message')
})

t.test('the expected close after WELCOME depends on the message', async (t) => {
  t.equal(endOfSession(bytes('0107')), null, 'PING')
  t.equal(endOfSession(bytes('')), null, 'an empty message')
  t.equal(endOfSession(bytes('0108')), Close.bye.code, 'BYE')
  t.equal(endOfSession(bytes('00')), Close.protocol_error.code, 'a frame without a type')
})
