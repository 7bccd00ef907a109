import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { PrepareError } from './say.mjs'

/**
 * Runs tap over the files, one line for each on standard output, the whole of it for those that fail. Resolves with the
 * files that did not pass: failed, timed out, made no assertion, or never reported.
 *
 * tap calls a file without a test skipped and exits with 0; here it fails, for a test that asserts nothing guards nothing.
 */
export async function runTap(root, files) {
  const tap = join(root, 'node_modules/tap/dist/esm/run.mjs')
  const child = spawn(process.execPath, [tap, 'run', '--reporter=tap', ...files], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const ended = new Promise((resolve) => child.once('close', (status) => resolve(status ?? 1)))
  const unreported = new Set(files)
  const failed = []
  let block = []
  let telling = false
  for await (const line of createInterface({ input: child.stdout })) {
    const end = /^(not )?ok \d+ - (\S+)(?: # (.*?))?(?: \{)?$/.exec(line)
    // Anything else at the top, such as the notice of a time-out, belongs to the file before it.
    if (end === null || !unreported.has(end[2])) {
      if (line.startsWith('# Subtest:')) telling = false
      // What follows a failure up to the next file is its diagnosis.
      if (telling) process.stdout.write(`${line}\n`)
      else block.push(line)
      continue
    }
    const [, not, file, note = ''] = end
    unreported.delete(file)
    const verdict = not !== undefined ? 'FAIL' : /SKIP|TODO/.test(note) ? 'EMPTY' : 'pass'
    process.stdout.write(`${verdict.padEnd(5)} ${file} ${note.replace('time=', '')}\n`)
    telling = verdict !== 'pass'
    if (telling) {
      failed.push(file)
      process.stdout.write(`${block.join('\n')}\n`)
    }
    block = []
  }
  const code = await ended
  const broken = [...failed, ...unreported]
  if (code !== 0 && broken.length === 0) throw new PrepareError(`tap ended with code ${code}:\n${block.join('\n')}`)
  return broken
}
