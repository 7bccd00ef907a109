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

// The client needs 3.11; neither the vectors nor the unit tests need a package.
const python = candidates.find(
  (candidate) => run(candidate, ['-c', 'import sys; sys.exit(sys.version_info < (3, 11))']).status === 0,
)

t.test('the Python client agrees with every vector and with its own tests', async (t) => {
  if (python === undefined) {
    t.fail(`no python3 of 3.11 or newer among ${candidates.join(', ')}: apt-get install python3`)
    return
  }
  const vectors = run(python, ['run_vectors.py'])
  t.equal(vectors.status, 0, `run_vectors.py: ${vectors.stderr}`)
  t.match(vectors.stdout, /^[1-9]\d* passed, 0 failed\n$/)

  const unit = run(python, ['-m', 'unittest', 'discover', '-s', 'tests', '-t', '.'])
  t.equal(unit.status, 0, `unittest: ${unit.stderr}`)
  t.match(unit.stderr, /\nRan [1-9]\d* tests in .*\n\nOK\n$/, 'all of them, none skipped')
})
