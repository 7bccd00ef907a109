import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t from 'tap'

// Tests run compiled, from dist/test/protocol.
const folder = fileURLToPath(new URL('../../../protocol/clients/python', import.meta.url))
const candidates = ['/usr/bin/python3', 'python3']

const run = (python: string, args: string[]) =>
  spawnSync(python, args, {
    cwd: folder,
    encoding: 'utf8',
    timeout: 60_000,
    env: { ...process.env, PYTHONDONTWRITEBYTECODE: '1' },
  })

// The client needs Python 3.11. Neither its vectors nor its unit tests need a package.
const python = candidates.find(
  (candidate) => run(candidate, ['-c', 'import sys; sys.exit(sys.version_info < (3, 11))']).status === 0,
)

function requiredPython(): string {
  if (python) return python
  throw new Error(`none of ${candidates.join(', ')} is Python 3.11 or newer: apt-get install python3`)
}

t.test('the Python client passes each vector', async (t) => {
  const vectors = run(requiredPython(), ['run_vectors.py'])
  t.equal(vectors.status, 0, `run_vectors.py: ${vectors.stderr}`)
  t.match(vectors.stdout, /^[1-9]\d* passed, 0 failed\n$/)
})

t.test('the unit tests of the Python client all pass, and none is skipped', async (t) => {
  const unit = run(requiredPython(), ['-m', 'unittest', 'discover', '-s', 'tests', '-t', '.'])
  t.equal(unit.status, 0, `unittest: ${unit.stderr}`)
  t.match(unit.stderr, /\nRan [1-9]\d* tests in .*\n\nOK\n$/)
})
