/** `npm run faults`: breaks a running system in the ways that happen, and asks the oracle whether a promise was broken. */
import { readFileSync, writeFileSync } from 'node:fs'
import { Command } from 'commander'
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
const endAll = () => cleanup.run((error) => say(String(error)))

const list = faults.map(({ name, summary }) => `  ${name.padEnd(26)} ${summary}`).join('\n')

const program = new Command('faults')
  .description(
    'Runs a whole Borealis on free ports under load, does a fault to it again and again at random moments, and judges: nothing lost, nothing twice at an app, nothing made up, every target counted. Ends with 1 where a promise was broken, or no fault could be done.',
  )
  .option('--fault <name>', 'one of those below, or all', 'all')
  .option('--kills <n>', 'injections of each fault', whole(1), 3)
  .option('--seed <n>', 'of the moments and the load', whole(0), 1)
  .option('--devices <n>', 'devices', whole(20), 60)
  .option('--rate <n>', 'pushes a second, beside the producers that keep an order', whole(1), 40)
  .option('--haste <n>', 'the waits of the system are its defaults divided by this', whole(1), 4)
  .option('--keep <folder>', 'keep the logs of runs that broke a promise there')
  .option('--join <files...>', 'run nothing: make one list of these results of earlier runs, those of one fault joined')
  .option('--json <file>', 'write the result as JSON; - for standard output')
  .addHelpText('after', `\nFaults:\n${list}`)
  .action(perform)

async function perform(options: Options): Promise<void> {
  if (options.join) {
    // A file has one result, or the list that this makes.
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
    endAll().finally(() => process.exit(130))
  }
  process.once('SIGINT', interrupted)
  process.once('SIGTERM', interrupted)
  const results: (Result | Skipped)[] = []
  for (const fault of chosen) {
    if (!fault) throw new Error(`there is no fault ${options.fault}: --help lists them`)
    say(`${fault.name}: ${fault.summary}`)
    const { kills: injections, seed, devices, rate: pushesPerSecond, haste, keep = null } = options
    try {
      const result = await runFault(fault, { injections, seed, devices, pushesPerSecond, haste, keep, cleanup, say })
      results.push(result)
      tell(result)
    } catch (error) {
      if (!(error instanceof FaultSkipped)) throw error
      results.push({ fault: fault.name, skipped: error.message })
      say(`${fault.name} is SKIPPED: ${error.message}`)
    }
  }
  await endAll()
  conclude(results, options.fault === 'all', options.json)
}

/** Writes what came of it, a list where more than one fault was asked for, and ends with the code that says it. */
function conclude(results: (Result | Skipped)[], isList: boolean, file: string | undefined): void {
  // A fault in one line, so that a difference between two runs of all can be read.
  const lines = results.map((result) => JSON.stringify(result))
  const json = isList ? `[\n${lines.join(',\n')}\n]\n` : `${lines[0]}\n`
  if (file === '-') process.stdout.write(json)
  else if (file) writeFileSync(file, json)
  const isBroken = results.some((result) => 'violations' in result && result.violations.length > 0)
  // Where nothing could be done, nothing was shown.
  const isIdle = results.every((result) => 'skipped' in result)
  process.exit(isBroken || isIdle ? 1 : 0)
}

function tell(result: Result): void {
  const { fault, injections, targets, lost, appDuplicates, phantoms, recoverySeconds, violations, seconds } = result
  for (const violation of violations) say(`  BROKEN ${violation}`)
  say(
    `${fault}: ${injections} injections, ${targets} targets, ${lost} lost, ${appDuplicates} twice, ${phantoms} made up, ` +
      `recovery p50 ${recoverySeconds.p50} s, p99 ${recoverySeconds.p99} s; ${seconds} s`,
  )
}

function say(text: string): void {
  const seconds = (performance.now() / 1000).toFixed(1)
  process.stderr.write(`faults: ${seconds.padStart(6)} ${text}\n`)
}

await program.parseAsync().catch(async (error: unknown) => {
  say(error instanceof Error ? (error.stack ?? error.message) : String(error))
  await endAll()
  process.exit(1)
})
