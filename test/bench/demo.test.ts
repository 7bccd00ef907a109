/** Tests of `npm run demo`: its text about failed checks, and its refusal of unknown cases. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { settled } from '../../bench/demo/api.js'
import { checkLine, summaryLines } from '../../bench/demo/check.js'
import { runDemo } from '../../bench/demo/run.js'
import { leftChildren } from './support/left-children.js'

// The tests start systems of several processes, on a machine that may be busy.
t.setTimeout(240_000)

t.test('the line of a failed check has the counted and the expected number', async (t) => {
  const failed = { name: 'a case: received by apps', expected: 0, got: 4, ok: false }
  const passed = { name: 'a case: status cancelled', expected: 5, got: 5, ok: true }
  t.equal(checkLine(failed), 'FAIL  a case: received by apps: got 4, expected 0')
  t.equal(checkLine(passed), 'ok    a case: status cancelled: 5')
  t.same(summaryLines([failed, passed], 3), ['1 of 2 checks ok, 3 s', checkLine(failed)])
})

t.test('a check that fails in a real run is printed at once and again at the end', async (t) => {
  const base = t.testdir()
  const lines: string[] = []
  const result = await runDemo({
    all: {
      'one push': async ({ api, checks, makeDevices }) => {
        const [device] = await makeDevices(1)
        const notification = { title: 'one', message: 'push' }
        await api.send({ type: 'device', target: device?.registrationId ?? '', ttl: '10m', notification })
        await settled(
          () => device?.received.length,
          (count) => count === 1,
          60_000,
        )
        checks.equal('accepted', 2, api.accepted)
        await device?.disconnect()
      },
      'another case': async () => {
        t.fail('a case ran that was not chosen')
      },
    },
    only: 'one p',
    say: (line) => lines.push(line),
    signals: false,
    base,
  })
  t.equal(result.ok, false)
  t.match(result.checks[0], { name: 'one push: accepted', expected: 2, got: 1, ok: false })
  t.same(lines.slice(0, 2), ['one push', '  FAIL  accepted: got 1, expected 2'])
  t.equal(lines.at(-1), 'FAIL  one push: accepted: got 1, expected 2')
  t.match(lines.at(-2), /^4 of 5 checks ok, /, 'the checks include the counters of the project')
  t.same(await leftChildren(), [])
  t.same(readdirSync(base), [])
})

t.test('the command fails without starting anything if no case has the name', async (t) => {
  const main = fileURLToPath(new URL('../../bench/demo/main.js', import.meta.url))
  const demo = spawn(process.execPath, [main, '--only', 'no such case'], { stdio: ['ignore', 'ignore', 'pipe'] })
  let output = ''
  demo.stderr.setEncoding('utf8').on('data', (text: string) => {
    output += text
  })
  const [code] = (await once(demo, 'close')) as [number]
  t.equal(code, 1)
  t.match(output, /no case with "no such case" in its name\. Its cases:\n {2}online devices, one push each\n/)
})
