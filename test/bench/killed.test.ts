/** A bench that is killed must not leave processes behind. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { childrenOf, isAlive } from '../../bench/measure/processes.js'

t.setTimeout(240_000)

const cli = fileURLToPath(new URL('../../bench/cli.js', import.meta.url))

const descendantsOf = (pid: number): number[] => childrenOf(pid).flatMap((child) => [child, ...descendantsOf(child)])

/** The command line of a process; empty if the process has ended. */
function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim()
  } catch {
    return ''
  }
}

t.test('a bench that is killed leaves no nats-server, core, transport, worker or generator', async (t) => {
  const options = ['--connections', '20', '--rate', '20', '--seconds', '600']
  const bench = spawn(process.execPath, [cli, 'pipeline', ...options], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  t.teardown(() => bench.kill('SIGKILL'))
  let output = ''
  bench.stderr.setEncoding('utf8').on('data', (text: string) => {
    output += text
  })
  const parts = [/nats-server/, / core$/, / transport$/, / transport --worker /, /generator/]
  let left: number[] = []
  const isComplete = () => parts.every((part) => left.some((pid) => part.test(commandOf(pid))))
  while (!isComplete() && bench.exitCode === null) {
    await sleep(100)
    left = descendantsOf(bench.pid ?? 0)
  }
  t.ok(isComplete(), `every part runs\n${output}`)
  const exit = once(bench, 'exit')
  bench.kill('SIGKILL')
  await exit
  for (const deadline = performance.now() + 60_000; performance.now() < deadline && left.some(isAlive); )
    await sleep(100)
  t.same(left.filter(isAlive).map(commandOf), [])
})
