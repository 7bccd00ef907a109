/** `npm run demo`: the command line of the demo. */
import { writeFileSync } from 'node:fs'
import { Command } from 'commander'
import { BenchError } from '../scenario.js'
import { runDemo } from './run.js'

const program = new Command('demo')
  .description(
    'Starts a complete Borealis on free ports, sends pushes of every kind, and checks that the apps get exactly these pushes.',
  )
  .option('--json <file>', 'write the checks as one JSON object to this file; - for standard output')
  .option('--only <text>', 'run only the cases whose name contains this text')
  .action(async ({ json, only = '' }: { json?: string; only?: string }) => {
    const result = await runDemo({ only, say: (line) => process.stderr.write(`${line}\n`) })
    const text = `${JSON.stringify(result)}\n`
    if (json === '-') process.stdout.write(text)
    else if (json !== undefined) writeFileSync(json, text)
    process.exitCode = result.ok ? 0 : 1
  })

try {
  await program.parseAsync()
} catch (error) {
  process.stderr.write(`demo: ${error instanceof BenchError ? error.message : (error as Error).stack}\n`)
  process.exitCode = 1
}
