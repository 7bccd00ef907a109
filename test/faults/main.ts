/** `npm run faults`: injects faults into a running system under load, and checks the invariants with the oracle. */
import { readFileSync, writeFileSync } from 'node:fs'
import { Command, InvalidArgumentError } from 'commander'
import { Cleanup } from '../../bench/cleanup.js'
import { whole } from '../support/options.js'
import { FaultSkipped } from './fault.js'
import { faultNamed, faults } from './kinds/index.js'
import { joinResults, type Result } from './result.js'
import { runFault } from './run.js'

interface Options {
  fault: string
  kills: number
  seed: number
  devices: number
  rate: number
  haste: number
  keep?: string
  join?: string[]
  json?: string
}

interface Skipped {
  fault: string
  skipped: string
}

const cleanup = new Cleanup()
const cleanUp = () => cleanup.run((error) => say(String(error)))

const faultList = faults.map(({ name, summary }) => `  ${name.padEnd(26)} ${summary}`).join('\n')

function faultOrAll(name: string): string {
  if (name === 'all' || faultNamed(name)) return name
  throw new InvalidArgumentError(`There is no such fault.\n\nFaults:\n${faultList}`)
}

const program = new Command('faults')
  .description(
    'Starts a complete Borealis on free ports, sends pushes under load, and injects a fault several times at random moments. After each run it checks that no push is lost, that no app sees a push twice or a push that was not sent to it, and that every target is counted. Exit code 1: a check failed, or this machine permits none of the faults.',
  )
  .option('--fault <name>', 'a fault of the list below, or all', faultOrAll, 'all')
  .option('--kills <n>', 'the number of injections of each fault', whole(1), 3)
  .option('--seed <n>', 'the seed of the load and of the moments of injection', whole(0), 1)
  .option('--devices <n>', 'the number of devices', whole(20), 60)
  .option('--rate <n>', 'pushes a second, without those of the producers that send in order', whole(1), 40)
  .option('--haste <n>', 'divide the time-outs of the system by this number, so that it recovers sooner', whole(1), 4)
  .option('--keep <folder>', 'keep the logs of runs in which a check failed, in this folder')
  .option('--join <files...>', 'run nothing, but join the results of earlier runs to one list with one entry a fault')
  .option('--json <file>', 'write the result as JSON; - for standard output')
  .addHelpText('after', `\nFaults:\n${faultList}`)
  .action(perform)

async function perform(options: Options): Promise<void> {
  if (options.join) {
    // A file has one result, or a list that an earlier --join made.
    const results = options.join.flatMap((file) => JSON.parse(readFileSync(file, 'utf8')) as Result | Result[])
    const names = faults.map(({ name }) => name).filter((name) => results.some(({ fault }) => fault === name))
    conclude(
      names.map((name) => joinResults(results.filter(({ fault }) => fault === name))),
      true,
      options.json,
    )
    return
  }
  const chosen = options.fault === 'all' ? faults : [faultNamed(options.fault)]
  const interrupted = () => {
    say('interrupted')
    cleanUp().finally(() => process.exit(130))
  }
  process.once('SIGINT', interrupted)
  process.once('SIGTERM', interrupted)
  const results: (Result | Skipped)[] = []
  for (const fault of chosen) {
    if (!fault) continue
    say(`${fault.name}: ${fault.summary}`)
    const { kills: injections, seed, devices, rate: pushesPerSecond, haste, keep = null } = options
    try {
      const result = await runFault(fault, { injections, seed, devices, pushesPerSecond, haste, keep, cleanup, say })
      results.push(result)
      printResult(result)
    } catch (error) {
      if (!(error instanceof FaultSkipped)) throw error
      results.push({ fault: fault.name, skipped: error.message })
      say(`${fault.name} is SKIPPED: ${error.message}`)
    }
  }
  await cleanUp()
  conclude(results, options.fault === 'all', options.json)
}

/** Writes the result, or a list of results, and exits with the code of the run. */
function conclude(results: (Result | Skipped)[], isList: boolean, file: string | undefined): void {
  // Each fault has one line, so that a diff of two files is readable.
  const lines = results.map((result) => JSON.stringify(result))
  const json = isList ? `[\n${lines.join(',\n')}\n]\n` : `${lines[0]}\n`
  if (file === '-') process.stdout.write(json)
  else if (file) writeFileSync(file, json)
  const hasViolation = results.some((result) => 'violations' in result && result.violations.length > 0)
  // A run that skipped every fault has proved nothing.
  const isAllSkipped = results.every((result) => 'skipped' in result)
  process.exit(hasViolation || isAllSkipped ? 1 : 0)
}

function printResult(result: Result): void {
  const { fault, injections, targets, lost, appDuplicates, phantoms, recoverySeconds, violations, seconds } = result
  for (const violation of violations) say(`  VIOLATION ${violation}`)
  say(
    `${fault}: ${injections} injections, ${targets} targets, ${lost} lost, ${appDuplicates} seen twice, ${phantoms} phantoms, ` +
      `recovery p50 ${recoverySeconds.p50} s, p99 ${recoverySeconds.p99} s; ${seconds} s`,
  )
}

function say(text: string): void {
  const seconds = (performance.now() / 1000).toFixed(1)
  process.stderr.write(`faults: ${seconds.padStart(6)} ${text}\n`)
}

await program.parseAsync().catch(async (error: unknown) => {
  say(error instanceof Error ? (error.stack ?? error.message) : String(error))
  await cleanUp()
  process.exit(1)
})
