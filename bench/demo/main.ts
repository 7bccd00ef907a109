/** `npm run demo`: a system of its own goes through every way a push can go, and counts. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Command } from 'commander'
import { acts, conservation } from './acts.js'
import type { Check } from './check.js'
import { openTheatre } from './stage.js'

interface Result {
  ok: boolean
  checks: Check[]
  seconds: number
}

const program = new Command('demo')
  .description('Starts a whole Borealis on free ports, lets pushes go every way they can, and counts at the apps.')
  .option('--json <file>', 'write the result as one JSON object; - for standard output')
  .option('--only <words>', 'only the acts whose name has these words')
  .action(async (options: { json?: string; only?: string }) => {
    const result = await perform(options.only ?? '')
    const json = JSON.stringify(result)
    if (options.json === '-') process.stdout.write(`${json}\n`)
    else if (options.json) writeFileSync(options.json, `${json}\n`)
    process.exitCode = result.ok ? 0 : 1
  })

async function perform(only: string): Promise<Result> {
  const folder = mkdtempSync(join(tmpdir(), 'borealis-demo-'))
  const begin = performance.now()
  const theatre = await openTheatre(join(folder, 'system'), say)
  const close = async () => {
    await theatre.close()
    rmSync(folder, { recursive: true, force: true })
  }
  const interrupted = () => {
    say('interrupted')
    close().finally(() => process.exit(130))
  }
  process.once('SIGINT', interrupted)
  process.once('SIGTERM', interrupted)
  const { stage } = theatre
  try {
    for (const [name, act] of Object.entries(acts)) {
      if (!name.includes(only)) continue
      say(name)
      const before = stage.checks.list.length
      await act(stage)
      for (const check of stage.checks.list.slice(before)) {
        check.name = `${name}: ${check.name}`
        say(`  ${check.ok ? 'ok  ' : 'FAIL'} ${check.name.slice(name.length + 2)}: ${check.got} of ${check.expected}`)
      }
    }
    say('conservation')
    await conservation(stage)
  } finally {
    process.off('SIGINT', interrupted)
    process.off('SIGTERM', interrupted)
    await close()
  }
  const { ok, list } = stage.checks
  const seconds = Math.round((performance.now() - begin) / 100) / 10
  say(`${list.filter((check) => check.ok).length} of ${list.length} checks ok, ${seconds} s`)
  return { ok, checks: list, seconds }
}

function say(line: string): void {
  process.stderr.write(`${line}\n`)
}

await program.parseAsync()
