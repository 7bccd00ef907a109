/**
 * Runs test files, each in its own Node process, and reads their TAP output. `tap run` does not serve: if a file times out
 * there, the result of the last file is lost (docs/adr/0011).
 */
import { spawn } from 'node:child_process'
import { pointsOf } from './tap-output.mjs'

/** @typedef {'pass' | 'FAIL' | 'EMPTY'} Verdict EMPTY: it made no assertion, so it tests nothing. */
/** @typedef {{ file: string, verdict: Verdict, why: string, ms: number, output: string }} Result */

/** Time for tap to report a time-out and to end. A process that does not end is killed after it. */
const GRACE_MS = 20_000
const OUTPUT_CHARACTERS_MAX = 4 * 2 ** 20

/**
 * Runs up to `jobs` files at a time, in order. Resolves with one result for each file, in the order in which they ended.
 * `onResult` gets each result at once.
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

/** Resolves with a Result, however the process ends. */
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
    // SIGTERM first, so that the test can end the servers that it started.
    const timers = [
      setTimeout(() => child.kill('SIGTERM'), timeoutSeconds * 1_000 + GRACE_MS),
      setTimeout(() => child.kill('SIGKILL'), timeoutSeconds * 1_000 + 2 * GRACE_MS),
    ]
    const ended = (code, signal) => {
      for (const timer of timers) clearTimeout(timer)
      // A pipe that a process left by the test still holds open would keep this process alive.
      child.stdout.destroy()
      child.stderr.destroy()
      const ms = Math.round(performance.now() - startedAt)
      resolve({ file, ...judge(output, code, signal), ms, output })
    }
    // A process left by the test may hold the pipes open, so this waits for their end only for a moment.
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
  // A call of process.exit(0) in the middle of a test leaves no plan.
  if (!/^1\.\.\d+/m.test(output)) return { verdict: 'FAIL', why: 'it ended before its plan' }
  return { verdict: 'pass', why: '' }
}
