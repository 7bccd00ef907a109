/** `npm run year`: a year of an installation on the virtual clock. Exit code 1: something was lost, refused or left to hands. */
import { writeFileSync } from 'node:fs'
import { Command } from 'commander'
import { commit } from '../../bench/envelope.js'
import { whole } from '../support/options.js'
import { CHECKS } from './checks.js'
import { runYear } from './year.js'

interface Options {
  devices: number
  days: number
  seed: number
  json?: string
  trace: boolean
}

const BAR_WIDTH = 40
/** Where nobody looks at a terminal, a line so often. */
const LINE_MS = 30_000

await new Command('year')
  .description(
    'Lives through a year of an installation on a virtual clock: two cores with their HTTP API, two workers and a fleet, all with their real code. Tokens and records end, keys are rotated twelve times, clocks step, parts are upgraded and killed, limits are reached. Prints {"ok", "lost", "checks": [{"name", "promise", "ok", "count", "found"}], ...}. Exit code 1: a check failed.',
  )
  .option('--devices <n>', 'size of the fleet', whole(30), 2_000)
  .option('--days <n>', 'length of the year', whole(30), 365)
  .option('--seed <n>', 'who is away, what is sent and what breaks', whole(0), 1)
  .option('--json <file>', 'write the result as JSON; - for standard output')
  .option('--trace', 'tell what happened on standard error', false)
  .addHelpText(
    'after',
    `
Checks:
${Object.entries(CHECKS)
  .map(([name, promise]) => `  ${name.padEnd(11)} ${promise}`)
  .join('\n')}

Examples:
  npm run -s year -- --json -
  npm run -s year -- --devices 50 --days 30 --seed 7`,
  )
  .action(perform)
  .parseAsync()

async function perform({ devices, days, seed, json, trace }: Options): Promise<void> {
  const startedMs = performance.now()
  const seconds = () => Math.round((performance.now() - startedMs) / 100) / 10
  const isTerminal = process.stderr.isTTY
  let toldMs = startedMs
  const onDay = (day: number) => {
    const bar = '#'
      .repeat(Math.max(0, Math.min(BAR_WIDTH, Math.round((day / days) * BAR_WIDTH))))
      .padEnd(BAR_WIDTH, '.')
    const text = `day ${day} of ${days}, ${seconds()} s`
    if (isTerminal) process.stderr.write(`\r[${bar}] ${text} `)
    else if (performance.now() - toldMs >= LINE_MS) {
      toldMs = performance.now()
      process.stderr.write(`year: ${text}\n`)
    }
  }
  const onWrong = (text: string) => void process.stderr.write(`${isTerminal ? '\n' : ''}${text}\n`)
  const onStory = (lines: readonly string[]) => void process.stderr.write(`${lines.join('\n')}\n`)
  const result = await runYear({ devices, days, seed, isTraced: trace, onDay, onWrong, onStory })
  if (isTerminal) process.stderr.write('\n')
  const report = `${JSON.stringify({ ...result, seconds: seconds(), commit: commit() })}\n`
  if (json !== undefined && json !== '-') writeFileSync(json, report)
  else process.stdout.write(report)
  process.exitCode = result.ok ? 0 : 1
}
