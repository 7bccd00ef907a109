/**
 * Runs test files, each in a Node process of its own, and reads the TAP that it prints. Not by `tap run`: one file that
 * times out there takes the last file's place in the plan, whose result is then lost (docs/adr/0011).
 */
import { spawn } from 'node:child_process'
import { pointsOf } from './tap-output.mjs'

/** @typedef {'pass' | 'FAIL' | 'EMPTY'} Verdict EMPTY: made no assertion, and a test that asserts nothing guards nothing. */
/** @typedef {{ file: string, verdict: Verdict, why: string, ms: number, output: string }} Result */

/** After its own time-out tap reports what is still open, and ends; a process that cannot do so is ended. */
const GRACE_MS = 20_000
const OUTPUT_CHARACTERS_MAX = 4 * 2 ** 20

/**
 * Up to `jobs` at once, in order. Resolves with one result for each file, in the order in which they ended; `onResult`
 * is told of each at once.
 */
export async function runFiles(root, files, { jobs, timeoutSeconds, onResult = () => undefined }) {
  // Compiled by now: the build runs before the tests.
  const { endWithParent } = await import('../dist/src/nats/server/end-with-parent.js')
  const results = []
  const waiting = [...files]
  const work = async () => {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) {
      const result = await runFile(root, file, timeoutSeconds, endWithParent)
      results.push(result)
      onResult(result)
    }
  }
  await Promise.all(Array.from({ length: jobs }, work))
  return results
}

/** Resolves with a Result whatever becomes of the process. */
function runFile(root, file, timeoutSeconds, endWithParent) {
  const startedAt = performance.now()
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ['--enable-source-maps', file], {
      cwd: root,
      env: { ...process.env, TAP: '1', TAP_TIMEOUT: String(timeoutSeconds) },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    // A test whose runner was killed would go on, with the servers that it started.
    endWithParent(child)
    let output = ''
    const keep = (chunk) => {
      output = (output + chunk).slice(-OUTPUT_CHARACTERS_MAX)
    }
    child.stdout.setEncoding('utf8').on('data', keep)
    child.stderr.setEncoding('utf8').on('data', keep)
    // SIGTERM first: a test that can still hear it ends the servers that it started.
    const timers = [
      setTimeout(() => child.kill('SIGTERM'), timeoutSeconds * 1_000 + GRACE_MS),
      setTimeout(() => child.kill('SIGKILL'), timeoutSeconds * 1_000 + 2 * GRACE_MS),
    ]
    const ended = (code, signal) => {
      for (const timer of timers) clearTimeout(timer)
      // Open pipes, whoever holds their other end, would keep this process alive after its last word.
      child.stdout.destroy()
      child.stderr.destroy()
      const ms = Math.round(performance.now() - startedAt)
      resolve({ file, ...judge(output, code, signal), ms, output })
    }
    // What a test left running may hold the pipes open: they are not waited for longer than a moment.
    child.once('exit', (code, signal) => {
      const timer = setTimeout(() => ended(code, signal), 1_000)
      child.once('close', () => {
        clearTimeout(timer)
        ended(code, signal)
      })
    })
    child.once('error', (error) => ended(String(error), null))
  })
}

function judge(output, code, signal) {
  const points = pointsOf(output).filter(({ counts }) => counts)
  if (signal !== null) return { verdict: 'FAIL', why: `ended by ${signal}` }
  if (code !== 0) return { verdict: 'FAIL', why: `exit code ${code}` }
  if (points.some(({ ok }) => !ok)) return { verdict: 'FAIL', why: 'not ok' }
  if (points.length === 0) return { verdict: 'EMPTY', why: 'it made no assertion' }
  // Whoever calls process.exit(0) in the middle did not come to its plan.
  if (!/^1\.\.\d+/m.test(output)) return { verdict: 'FAIL', why: 'it ended before its plan' }
  return { verdict: 'pass', why: '' }
}
