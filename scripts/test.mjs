/**
 * `npm test`: prepares, builds (which checks the types), lints, then runs the test suite. With arguments it runs only these
 * compiled test files: `npm test -- dist/test/unit/config.test.js`.
 */
import { existsSync, readdirSync } from 'node:fs'
import { join, relative } from 'node:path'
import { prepare, root } from './prepare.mjs'
import { ensurePython } from './python.mjs'
import { fail, PrepareError, run, say } from './say.mjs'
import { runSuite } from './suite.mjs'
import { ensureTestTools } from './test-tools.mjs'

const JOBS = 2
/** Time-out of a file that hangs, far above what any file needs on a slow and busy machine. */
const FILE_SECONDS_MAX = 300

async function main(asked) {
  const startedAt = performance.now()
  await ensurePython()
  await ensureTestTools()
  await prepare({ natsServer: 'always' })
  const { onNpmEnded } = await import('../dist/src/nats/server/end-with-parent.js')
  onNpmEnded(() => {
    say('npm was killed: the tests end')
    process.exit(1)
  })
  say('types: ok')
  await lint()
  const files = asked.length > 0 ? asked.map((file) => relative(root, join(process.cwd(), file))) : allTests()
  const missing = files.filter((file) => !existsSync(join(root, file)))
  if (missing.length > 0) throw new PrepareError(`there is no test file ${missing.join(', ')}`)
  if (files.length === 0) throw new PrepareError('the build has no test files')
  // Installed here and not by the test, so that the installation does not run beside other tests.
  if (files.some((file) => file.includes('schemathesis'))) {
    const { ensureSchemathesis } = await import('../dist/test/support/schemathesis.js')
    const missing = ensureSchemathesis()
    if (missing !== null) say(`tests of the APIs against their documents are skipped: ${missing}`)
  }
  const { failed, flaky, skipped } = await runSuite(root, files, { jobs: JOBS, timeoutSeconds: FILE_SECONDS_MAX })
  const seconds = Math.round((performance.now() - startedAt) / 1000)
  const count = `${files.length} test files`
  const passedAlone = flaky.length > 0 ? `; FLAKY, passed only when repeated alone: ${flaky.join(', ')}` : ''
  if (failed.length > 0)
    throw new PrepareError(`FAILED ${failed.length} of ${count}: ${failed.join(', ')}${passedAlone}`)
  const notTested = skipped > 0 ? `, ${skipped} skipped: look for # SKIP` : ''
  say(`PASSED all ${count} in ${seconds} s${notTested}${passedAlone}`)
}

async function lint() {
  const biome = join(root, 'node_modules/@biomejs/biome/bin/biome')
  const { code, tail } = await run(process.execPath, [biome, 'check', '--colors=off', '.'], { cwd: root })
  if (code !== 0) throw new PrepareError(`the linter found problems:\n${tail.trim()}`)
  say('lint: ok')
}

function allTests() {
  return readdirSync(join(root, 'dist/test'), { recursive: true })
    .filter((file) => file.endsWith('.test.js'))
    .map((file) => join('dist/test', file))
    .sort()
}

await main(process.argv.slice(2)).catch(fail)
