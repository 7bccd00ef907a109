/**
 * Runs the test suite. A file that fails runs once more, alone. A summary of the failures comes at the very end, because CI
 * keeps only the end of the output (docs/adr/0011).
 */
import { runFiles } from './tap.mjs'
import { failuresOf, skippedOf } from './tap-output.mjs'

/** With more failures than this nothing is repeated: a busy machine is not the cause. */
const RETRIED_MAX = 3
const SUMMARY_LINES_MAX = 40
const FAILURES_SHOWN = 5

/**
 * Prints one line for each file with its skipped tests, the whole output of a file that fails, and the summary. Resolves with
 * the failed files, with the flaky ones (failed at first, passed alone), and with the number of skipped tests.
 */
export async function runSuite(root, files, { jobs, timeoutSeconds, print = (text) => process.stdout.write(text) }) {
  const onResult = ({ file, verdict, why, ms, output }) => {
    print(`${verdict.padEnd(5)} ${file} ${ms}ms${why ? ` (${why})` : ''}\n`)
    if (verdict !== 'pass') print(`${output.trimEnd()}\n\n`)
    // Shows skipped tests also if all others of the file passed.
    else
      for (const { path, skip } of skippedOf(output)) print(`      ${`${path.join(' > ')} # SKIP ${skip}`.trimEnd()}\n`)
  }
  const first = await runFiles(root, files, { jobs, timeoutSeconds, onResult })
  const broken = first.filter(({ verdict }) => verdict !== 'pass')
  const again = broken.length <= RETRIED_MAX ? broken.filter(({ verdict }) => verdict === 'FAIL') : []
  if (again.length > 0) print(`once more, alone: ${again.map(({ file }) => file).join(', ')}\n`)
  const second = await runFiles(
    root,
    again.map(({ file }) => file),
    { jobs: 1, timeoutSeconds, onResult },
  )
  const passed = new Set(second.filter(({ verdict }) => verdict === 'pass').map(({ file }) => file))
  const flaky = broken.filter(({ file }) => passed.has(file))
  const failed = broken.filter(({ file }) => !passed.has(file))
  if (broken.length > 0) print('\n==== summary of failures\n')
  for (const result of flaky) print(summaryOf('FLAKY', result, 'passed when it ran again, alone; the first time:'))
  for (const result of failed) print(summaryOf('FAILED', result, ''))
  const names = (results) => results.map(({ file }) => file)
  // Of a file that ran twice, the second run counts.
  const last = new Map([...first, ...second].map((result) => [result.file, result]))
  const skipped = [...last.values()].reduce((sum, { output }) => sum + skippedOf(output).length, 0)
  return { failed: names(failed), flaky: names(flaky), skipped }
}

function summaryOf(mark, { file, verdict, why, output }, note) {
  const failures = failuresOf(output)
  const shown = failures.slice(0, FAILURES_SHOWN).map(({ path, diagnosis }) => {
    return [`  ${path.join(' > ')}`, ...shortened(diagnosis).map((line) => `    ${line}`)].join('\n')
  })
  if (failures.length > shown.length) shown.push(`  and ${failures.length - shown.length} more`)
  // A crash reports its cause at the end of the output, outside of any assertion.
  if (failures.length === 0 && verdict === 'FAIL') {
    const last = output.trimEnd().split('\n').slice(-SUMMARY_LINES_MAX)
    shown.push(last.map((line) => `    ${line}`).join('\n'))
  }
  const head = `${mark} ${file}: ${[why, note].filter(Boolean).join('; ')}`
  return `${[head, ...shown].join('\n')}\n\n`
}

/** The diagnosis of a failure without its stack and source lines. */
function shortened(diagnosis) {
  let hides = false
  const lines = diagnosis.filter((line) => {
    if (/^\S/.test(line)) hides = /^(?:at|source):/.test(line)
    return !hides
  })
  if (lines.length <= SUMMARY_LINES_MAX) return lines
  const left = lines.length - SUMMARY_LINES_MAX + 1
  return [...lines.slice(0, SUMMARY_LINES_MAX - 1), `[${left} more lines]`]
}
