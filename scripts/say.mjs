/** What every script shares: one short line for each step, and a failure that names its next move. */
import { spawn } from 'node:child_process'

export class PrepareError extends Error {}

/** Progress goes to standard error: standard output belongs to the command that is being prepared. */
export function say(line) {
  process.stderr.write(`borealis: ${line}\n`)
}

/** Ends the process with one clear line; a bug of ours keeps its stack. */
export function fail(error) {
  say(error instanceof PrepareError ? error.message : (error?.stack ?? String(error)))
  process.exitCode = 1
}

/**
 * Runs a program to its end. Resolves with its code and its output's tail; `show` passes the output through.
 * Standard input is closed: nothing here may wait for an answer in CI (`input: 'inherit'` where sudo may ask).
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
