#!/usr/bin/env node
/** `npm run bench -- <scenario> [options] [--json FILE|-]` */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { Command } from 'commander'
import { seal } from './envelope.js'
import { addFlags, pickOptions } from './flags.js'
import { type CpuProfile, partTimes } from './profile/parts.js'
import { timeRows } from './profile/table.js'
import { reference } from './reference.js'
import { makeReport } from './report/report.js'
import { runScenario } from './run.js'
import { BenchError, type Scenario } from './scenario.js'
import { scenarios } from './scenarios/index.js'
import { rowsOf, textTable } from './table.js'

const program = new Command('bench')
  .description(
    'Measures Borealis on this machine, with baselines in the same run. Run it on a quiet machine: everything shares its cores.',
  )
  .showHelpAfterError('(bench --help lists the scenarios)')

for (const scenario of scenarios) {
  const command = program
    .command(scenario.name)
    .description(scenario.summary)
    .option('--json <file>', 'write the result as JSON to this file; - for standard output')
    .addHelpText('after', `\nResult fields: ${Object.keys(scenario.result.properties).join(', ')}`)
    .action((given: Record<string, unknown>) => perform(scenario, given))
  addFlags(command, scenario.options)
}

program
  .command('report')
  .description('make a report with charts from the results of a folder')
  .option('--results <folder>', 'where the results are, and the report goes', 'bench/results')
  .action(async ({ results }: { results: string }) => {
    process.stdout.write(`${await makeReport(results)}\n`)
  })

program
  .command('parts')
  .description(
    'show which parts of the code the time of a .cpuprofile went to (profile --keep and accept --profile write them)',
  )
  .argument('<file>')
  .action(async (file: string) => {
    const { samplesOnTime, busyMicros, parts } = partTimes([JSON.parse(await readFile(file, 'utf8')) as CpuProfile])
    process.stdout.write(`busy: ${Math.round(busyMicros / 1000)} ms, ${samplesOnTime} samples\n\n`)
    process.stdout.write(textTable(timeRows(parts, busyMicros)))
  })

program
  .command('reference')
  .description('print the part of docs/bench.md that is made from the scenarios')
  .action(() => {
    process.stdout.write(reference(scenarios))
  })

async function perform(scenario: Scenario, given: Record<string, unknown>): Promise<void> {
  const parameters = pickOptions(scenario.options, given)
  const startedAtMs = Date.now()
  const result = await runScenario(scenario, parameters)
  const envelope = seal({
    scenario,
    parameters,
    result,
    startedAtMs,
    endedAtMs: Date.now(),
    command: process.argv.slice(2).join(' '),
  })
  const text = `${JSON.stringify(envelope, null, 2)}\n`
  if (given.json === '-') process.stdout.write(text)
  else process.stdout.write(textTable(scenario.show?.(result) ?? rowsOf(result)))
  if (typeof given.json === 'string' && given.json !== '-') {
    await mkdir(dirname(given.json), { recursive: true })
    await writeFile(given.json, text)
  }
  const failure = scenario.failed?.(result) ?? ''
  if (failure !== '') throw new BenchError(`${scenario.name} did not come to its end: ${failure}`)
}

try {
  await program.parseAsync()
} catch (error) {
  const text = error instanceof BenchError ? error.message : error instanceof Error ? error.stack : String(error)
  process.stderr.write(`bench: ${text}\n`)
  process.exitCode = 1
}
