#!/usr/bin/env node
/** `npm run bench -- <scenario> [options] [--json FILE|-]`: the command line of bench. */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { Command, InvalidArgumentError } from 'commander'
import { buildCommit, resolveCommit } from './against/commit-build.js'
import { compare } from './against/compare.js'
import { Comparison, comparisonRows } from './against/figures.js'
import { type Run, root, seal } from './envelope.js'
import { addFlags, pickOptions } from './flags.js'
import { type CpuProfile, partTimes } from './profile/parts.js'
import { timeRows } from './profile/table.js'
import { reference } from './reference.js'
import { makeReport } from './report/report.js'
import { runScenario, runWithCleanup } from './run.js'
import { BenchError, type Scenario } from './scenario.js'
import { scenarios } from './scenarios/index.js'
import { rowsOf, textTable } from './table.js'

const program = new Command('bench')
  .description(
    'Measures Borealis on this machine, with baselines in the same run. Run it on a quiet machine, because servers, devices and baselines share its cores.',
  )
  .showHelpAfterError('(bench --help lists the scenarios, bench SCENARIO --help its options)')

/** Flags of every scenario beside its own. */
interface Common {
  json?: string
  against?: string
  againstRounds: number
  keepBuild: boolean
}

for (const scenario of scenarios) {
  const command = program
    .command(scenario.name)
    .description(scenario.summary)
    .option('--json <file>', 'write the result as JSON to this file; - for standard output')
    .option('--against <commit>', 'build this commit, run its bench and ours in turns, and compare the figures')
    .option('--against-rounds <number>', 'runs of each side with --against', parseRounds, 5)
    .option('--keep-build', 'with --against: keep the build of the commit for later runs', false)
    .addHelpText('after', `\nResult fields: ${Object.keys(scenario.result.properties).join(', ')}`)
    .action((given: Common & Record<string, unknown>) =>
      given.against === undefined ? perform(scenario, given) : performAgainst(scenario, given, given.against),
    )
  addFlags(command, scenario.options)
}

program
  .command('report')
  .description('write a report with charts from the results of a folder')
  .option('--results <folder>', 'folder of the results and of the report', 'bench/results')
  .action(async ({ results }: { results: string }) => {
    process.stdout.write(`${await makeReport(results)}\n`)
  })

program
  .command('parts')
  .description(
    'divide the time of a .cpuprofile among parts of the code (profile --keep and accept --profile write such files)',
  )
  .argument('<file>')
  .action(async (file: string) => {
    const { samplesOnTime, busyMicros, parts } = partTimes([JSON.parse(await readFile(file, 'utf8')) as CpuProfile])
    process.stdout.write(`busy: ${Math.round(busyMicros / 1000)} ms, ${samplesOnTime} samples\n\n`)
    process.stdout.write(textTable(timeRows(parts, busyMicros)))
  })

program
  .command('reference')
  .description('print the part of docs/bench.md that is generated from the scenarios')
  .action(() => {
    process.stdout.write(reference(scenarios))
  })

async function perform(scenario: Scenario, given: Common & Record<string, unknown>): Promise<void> {
  const parameters = pickOptions(scenario.options, given)
  const startedAtMs = Date.now()
  const result = await runScenario(scenario, parameters)
  await write(given, () => textTable(scenario.show?.(result) ?? rowsOf(result)), {
    scenario,
    parameters,
    result,
    startedAtMs,
  })
  const failure = scenario.failed?.(result) ?? ''
  if (failure !== '') throw new BenchError(`${scenario.name} did not complete: ${failure}`)
}

async function performAgainst(
  scenario: Scenario,
  given: Common & Record<string, unknown>,
  name: string,
): Promise<void> {
  const { againstRounds: rounds, keepBuild: keep } = given
  const parameters = pickOptions(scenario.options, given)
  const startedAtMs = Date.now()
  const comparison = await runWithCleanup('against', async (bench) => {
    const hash = await resolveCommit(bench, root, name)
    const folder = await buildCommit(bench, root, hash, { keep })
    return compare(bench, {
      tree: { name: 'this tree', folder: root },
      commit: { name: `commit ${hash.slice(0, 12)}`, folder, hash },
      scenario,
      parameters,
      rounds,
      given: Object.keys(parameters).filter((option) => sourceOf(scenario.name, option) === 'cli'),
    })
  })
  const heading = `${scenario.name}, median (lowest..highest) of ${rounds} rounds; ratio: this tree divided by the commit\n\n`
  await write(given, () => heading + textTable(comparisonRows(comparison, scenario.headline)), {
    scenario: { name: 'against', result: Comparison },
    parameters: { scenario: scenario.name, against: name, againstRounds: rounds, ...parameters },
    result: comparison,
    startedAtMs,
  })
}

/** Whether an option's value came from the command line or is its default. */
function sourceOf(scenario: string, option: string): string | undefined {
  return program.commands.find((command) => command.name() === scenario)?.getOptionValueSource(option)
}

/** Shows the result as a table or as JSON, and writes it to the file that --json names. */
async function write({ json }: Common, table: () => string, run: Omit<Run, 'endedAtMs' | 'command'>): Promise<void> {
  const envelope = seal({ ...run, endedAtMs: Date.now(), command: process.argv.slice(2).join(' ') })
  const text = `${JSON.stringify(envelope, null, 2)}\n`
  process.stdout.write(json === '-' ? text : table())
  if (json === undefined || json === '-') return
  await mkdir(dirname(json), { recursive: true })
  await writeFile(json, text)
}

function parseRounds(text: string): number {
  const number = Number(text)
  if (Number.isInteger(number) && number >= 1 && number <= 101) return number
  throw new InvalidArgumentError('It must be an integer from 1 to 101.')
}

try {
  await program.parseAsync()
} catch (error) {
  const text = error instanceof BenchError ? error.message : error instanceof Error ? error.stack : String(error)
  process.stderr.write(`bench: ${text}\n`)
  process.exitCode = 1
}
