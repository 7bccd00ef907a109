/** `npm run hostile`: sends hostile bytes to the decoder in this process and to a Borealis that it starts. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Command } from 'commander'
import { commit } from '../../bench/envelope.js'
import { whole } from '../support/options.js'
import { runHostile } from './run.js'

interface Options {
  frames: number
  seed: number
  json?: string
}

const FRAMES_DEFAULT = 200_000
/** Time between two lines of progress where standard error is no terminal. */
const PROGRESS_INTERVAL_MS = 10_000

let printedMs = 0

await new Command('hostile')
  .description(
    'Sends half of the frames to the decoder in this process, and half to a Borealis that it starts: random bytes, mutated golden vectors, frames that the state does not allow, forged credentials, slow connections, malformed HTTP. Exit code 1: a process ended, a message was lost or reached a wrong device, a close code differs from PROTOCOL.md, or memory grew.',
  )
  .option('--frames <n>', 'the number of frames', whole(1), FRAMES_DEFAULT)
  .option('--seed <n>', 'the seed of all random choices', whole(0), 1)
  .option('--json <file>', 'write the result as JSON to this file (default: standard output, as with -)')
  .addHelpText('after', '\nPrints the progress on standard error.')
  .action(perform)
  .parseAsync()

async function perform({ frames, seed, json: file = '-' }: Options): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'borealis-hostile-'))
  try {
    const result = await runHostile({
      ...{ frames, seed, folder: join(folder, 'system') },
      onProgress: show,
      onNotice: (text) => process.stderr.write(`\n${text}\n`),
    })
    if (process.stderr.isTTY) process.stderr.write('\n')
    const json = `${JSON.stringify({ ...result, commit: commit() })}\n`
    if (file === '-') process.stdout.write(json)
    else writeFileSync(file, json)
    process.exitCode = result.ok ? 0 : 1
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function show(text: string): void {
  if (process.stderr.isTTY) {
    process.stderr.write(`\r${text} `)
    return
  }
  if (performance.now() - printedMs < PROGRESS_INTERVAL_MS) return
  printedMs = performance.now()
  process.stderr.write(`${text}\n`)
}
