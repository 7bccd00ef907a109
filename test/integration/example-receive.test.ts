/** Runs the program docs/examples/receive.ts against the whole service. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { resolve } from 'node:path'
import { createInterface } from 'node:readline'
import t, { type Test } from 'tap'
import { Collected } from '../contract/suite.js'
import { type Live, startLive } from '../device/live.js'

t.setTimeout(90_000)

interface Running {
  child: ChildProcess
  lines: Collected<string>
}

function start(t: Test, { coreUrl, enrolmentKey, application }: Live, state: string): Running {
  const program = resolve('dist/docs/examples/receive.js')
  const child = spawn(process.execPath, [program, coreUrl, application, state], {
    env: { PATH: process.env.PATH, ENROLMENT_KEY: enrolmentKey },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.teardown(() => child.kill('SIGKILL'))
  const lines = new Collected<string>()
  createInterface({ input: child.stdout }).on('line', (line) => lines.add(line))
  return { child, lines }
}

async function stop({ child }: Running): Promise<number | null> {
  child.kill('SIGTERM')
  const [code] = (await once(child, 'exit')) as [number | null]
  return code
}

t.test('receive.ts prints a push, and after a restart the missed push under the same registrationId', async (t) => {
  const live = await startLive(t)
  const state = live.stateFile('receive.state')
  const first = start(t, live, state)
  const [registered = ''] = await first.lines.until(1)
  t.match(registered, /^registered \S+$/)
  const registrationId = registered.split(' ')[1] ?? ''
  await live.send('device', registrationId, 'hello')
  const [, push = ''] = await first.lines.until(2)
  t.same(JSON.parse(push.slice('push '.length)), {
    title: 'hello',
    message: '',
    data: { n: 1 },
    possibleDuplicate: false,
  })
  t.equal(await stop(first), 0)

  await live.send('device', registrationId, 'while it was away')
  const second = start(t, live, state)
  const lines = await second.lines.until(2)
  t.ok(lines.includes(registered), 'the same registrationId')
  t.ok(lines.some((line) => line.includes('while it was away')))
  t.equal(await stop(second), 0)
})
