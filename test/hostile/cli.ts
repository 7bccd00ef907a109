/**
 * `npm run hostile`: sends hostile bytes to the decoder in this process and to a Borealis that it starts, or attacks
 * nats-server with the credentials of one part.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Command, Option } from 'commander'
import { commit } from '../../bench/envelope.js'
import { whole } from '../support/options.js'
import { ATTACKERS, type Attacker, attackNats } from './nats.js'
import { type HostileResult, runHostile } from './run.js'

interface Options {
  as: Attacker | 'device'
  frames: number
  operations?: number
  seed: number
  json?: string
}

const FRAMES_DEFAULT = 200_000
const OPERATIONS_DEFAULT = 20_000
/** Time between two lines of progress where standard error is no terminal. */
const PROGRESS_INTERVAL_MS = 10_000

let printedMs = 0

await new Command('hostile')
  .description(
    'Sends half of the frames to the decoder in this process, and half to a Borealis that it starts: random bytes, mutated golden vectors, frames that the state does not allow, forged credentials, slow connections, malformed HTTP. With --as publisher, subscriber or transport: attacks nats-server with stolen credentials, and searches the store and all that the attacker hears for escapes. Exit code 1: an escape, a process ended, a message was lost or reached a wrong device, a close code differs from PROTOCOL.md, or memory grew.',
  )
  .addOption(
    new Option('--as <attacker>', 'with whose credentials: those of a device, or of a part or tenant on NATS')
      .choices(['device', ...ATTACKERS])
      .default('device'),
  )
  .option(
    '--operations <n>',
    'the number of NATS operations: publishes, requests, subscriptions; for a device the number of frames',
    whole(1),
  )
  .option('--frames <n>', 'the number of frames', whole(1), FRAMES_DEFAULT)
  .option('--seed <n>', 'the seed of all random choices', whole(0), 1)
  .option('--json <file>', 'write the result as JSON to this file (default: standard output, as with -)')
  .addHelpText('after', '\nPrints the progress on standard error.')
  .action(perform)
  .parseAsync()

async function perform({ as, operations, frames, seed, json: file = '-' }: Options): Promise<void> {
  const result =
    as === 'device'
      ? await attackAsDevice(operations ?? frames, seed)
      : await attackNats({ as, operations: operations ?? OPERATIONS_DEFAULT, seed, onProgress: show })
  if (process.stderr.isTTY) process.stderr.write('\n')
  const json = `${JSON.stringify({ ...result, commit: commit() })}\n`
  if (file === '-') process.stdout.write(json)
  else writeFileSync(file, json)
  process.exitCode = result.ok ? 0 : 1
}

async function attackAsDevice(frames: number, seed: number): Promise<HostileResult & { escapes: number }> {
  const folder = mkdtempSync(join(tmpdir(), 'borealis-hostile-'))
  try {
    const result = await runHostile({
      ...{ frames, seed, folder: join(folder, 'system') },
      onProgress: show,
      onNotice: (text) => process.stderr.write(`\n${text}\n`),
    })
    return { ...result, escapes: result.wrongDevice }
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
