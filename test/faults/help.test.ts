/** Tests that the command line of `npm run faults` names every kind of fault. */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { faults } from './kinds/index.js'

const MAIN = fileURLToPath(new URL('./main.js', import.meta.url))

function run(...args: string[]): { status: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, ...args], { encoding: 'utf8' })
  return { status, output: stdout + stderr }
}

t.test('--help lists every fault with its summary in one line', async (t) => {
  const { status, output } = run('--help')
  t.equal(status, 0)
  const lines = output.split('\n')
  for (const { name, summary } of faults) {
    t.ok(
      lines.some((line) => line.trim().startsWith(`${name} `) && line.endsWith(` ${summary}`)),
      `${name} ${summary}`,
    )
  }
})

t.test('an unknown fault is refused before anything starts, with the list of all faults', async (t) => {
  const { status, output } = run('--fault', 'core-kil')
  t.equal(status, 1)
  t.match(output, /--fault <name>.*'core-kil' is invalid/)
  for (const { name } of faults) t.match(output, `  ${name} `)
})

t.test('no two faults have the same name', async (t) => {
  t.equal(new Set(faults.map(({ name }) => name)).size, faults.length)
})
