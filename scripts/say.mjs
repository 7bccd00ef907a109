/** Shared by all scripts: a short line for each step, and failures that say what to do next. */
import { spawn } from 'node:child_process'

export class PrepareError extends Error {}

/** Writes to standard error, because standard output belongs to the command that is being prepared. */
export function say(line) {
  process.stderr.write(`borealis: ${line}\n`)
}

/** Reports a failure and sets the exit code. A PrepareError is one line; another error is a bug and keeps its stack. */
export function fail(error) {
  say(error instanceof PrepareError ? error.message : (error?.stack ?? String(error)))
  process.exitCode = 1
}

/**
 * Runs a program to its end. Resolves with its exit code and the tail of its output. `show` also passes the output through.
 * Standard input is closed, so that nothing waits for an answer in CI; `input: 'inherit'` lets sudo ask for a password.
 */
export function run(program, args, { cwd, env, show = false, input = 'ignore' } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd, env, stdio: [input, 'pipe', 'pipe'] })
    let tail = ''
    const keep = (chunk) => {
      tail = (tail + chunk).slice(-8_000)
      if (show) process.stderr.write(chunk)
    }
    child.stdout.on('data', keep)
    child.stderr.on('data', keep)
    child.once('error', (error) => {
      if (error.code === 'ENOENT') resolve({ code: 127, tail: `${program}: not found` })
      else reject(error)
    })
    child.once('close', (code, signal) => resolve({ code: code ?? 1, tail: signal ? `${tail}\n${signal}` : tail }))
  })
}
