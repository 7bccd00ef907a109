/** `npm run hostile`: bytes that mean harm, against the decoder in this process and a live Borealis that is started for it. */
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
/** Where nobody looks at a terminal, a line so often. */
const LINE_MS = 10_000

let lineMs = 0

await new Command('hostile')
  .description(
    'Half of the frames go to the decoder in this process, half to a live Borealis that is started for it: random ones, mutated vectors, frames that the state does not allow, forged credentials, slow drip, malformed HTTP. Exit code 1: a process ended, a message was lost or reached the wrong device, a close was not the one that PROTOCOL.md has, or memory grew.',
  )
  .option('--frames <n>', 'frames in all', whole(1), FRAMES_DEFAULT)
  .option('--seed <n>', 'of all that is drawn', whole(0), 1)
  .option('--json <file>', 'write the result as JSON; default: standard output, as for -')
  .addHelpText('after', '\nTells how far it is on standard error.')
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
  if (performance.now() - lineMs < LINE_MS) return
  lineMs = performance.now()
  process.stderr.write(`${text}\n`)
}
