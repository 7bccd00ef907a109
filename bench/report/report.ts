/** Writes a report in Markdown with charts from the results of a folder. */
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Value } from 'typebox/value'
import { type Comparison, comparisonRows } from '../against/figures.js'
import { Envelope } from '../envelope.js'
import { partRows, type Sides } from '../profile/table.js'
import { BenchError, type Row } from '../scenario.js'
import { cell, rowsOf } from '../table.js'
import { chartsOf } from './charts.js'
import { goals } from './goals.js'

interface Found {
  /** Name of the file without its extension. */
  file: string
  envelope: Envelope
}

const CHARTS = 'charts'
const REPORT = 'report.md'
/** Most rows of one table. Longer data, such as samples over time, is in the JSON and in a chart. */
const ROWS_MAX = 60

/** Writes `report.md` and `charts/*.svg` beside the results. Resolves with the path of the report. */
export async function makeReport(folder: string): Promise<string> {
  const found = await readResults(folder)
  const charts = join(folder, CHARTS)
  await rm(charts, { recursive: true, force: true })
  await mkdir(charts, { recursive: true })
  const sections: string[] = []
  for (const { file, envelope } of found) {
    const drawn = chartsOf(file, envelope)
    for (const { name, svg } of drawn) await writeFile(join(charts, `${name}.svg`), svg)
    const images = drawn.map(({ name, title }) => `![${title}](${CHARTS}/${name}.svg)`)
    sections.push(
      [`## ${file}`, provenance(envelope), ...images, fieldTable(envelope), ...ownTables(envelope)].join('\n\n'),
    )
  }
  const path = join(folder, REPORT)
  await writeFile(path, `${[heading(found), goalTable(found), ...sections].join('\n\n')}\n`)
  return path
}

async function readResults(folder: string): Promise<Found[]> {
  const names = (await readdir(folder).catch(() => [])).filter((name) => name.endsWith('.json')).sort()
  const results = await Promise.all(
    names.map(async (name) => {
      const envelope: unknown = JSON.parse(await readFile(join(folder, name), 'utf8'))
      // The results of sim, faults and demo lie here too, and have no scenario.
      if (typeof envelope === 'object' && envelope !== null && !('scenario' in envelope)) return []
      if (!Value.Check(Envelope, envelope)) throw new BenchError(`${name} is no result of bench`)
      return [{ file: name.replace(/\.json$/, ''), envelope }]
    }),
  )
  const found = results.flat()
  if (found.length === 0) throw new BenchError(`there are no results in ${folder}: run scenarios with --json first`)
  return found
}

function heading(found: readonly Found[]): string {
  const machines = new Set(
    found.map(
      ({ envelope: { machine } }) =>
        `${machine.cpu}, ${machine.cores} cores, ${Math.round(machine.memoryBytes / 2 ** 30)} GiB, Linux ${machine.kernel}`,
    ),
  )
  return [
    '# Measured',
    '',
    '`npm run bench -- report` makes this page from the results beside it; do not edit it. Servers, devices and the servers of a',
    'comparison share the cores of one machine. Both sides of a ratio are measured in the same run. [docs/bench.md](../../docs/bench.md)',
    'explains each field; a *bare* server is uWebSockets.js alone.',
    '',
    ...[...machines].map((machine) => `- ${machine}`),
  ].join('\n')
}

/** The goals with their measured values, and the scenarios with goals but without a result. */
function goalTable(found: readonly Found[]): string {
  const rows: Row[] = []
  for (const goal of goals) {
    for (const { file, envelope } of found.filter(({ envelope: { scenario } }) => scenario === goal.scenario)) {
      const measured = goal.measured(envelope.result)
      if (Number.isNaN(measured)) continue
      rows.push({
        result: file,
        goal: goal.quantity,
        wanted: `${goal.wanted}${goal.unit && ` ${goal.unit}`}`,
        measured: `${cell(measured)}${goal.unit && ` ${goal.unit}`}`,
        reached: goal.reached(measured) ? 'yes' : 'no',
        command: `\`npm run bench -- ${envelope.command}\``,
      })
    }
  }
  const silent = new Set(goals.map(({ scenario }) => scenario))
  for (const { envelope } of found) silent.delete(envelope.scenario)
  return silent.size === 0 ? markdown(rows) : `${markdown(rows)}\n\nNot measured: ${[...silent].join(', ')}.`
}

function provenance({ command, commit, startedAt, seconds, versions }: Envelope): string {
  const list = Object.entries(versions).map(([name, version]) => `${name} ${version}`)
  return `\`npm run bench -- ${command}\`, ${seconds} s at ${startedAt}, commit ${commit}; ${list.join(', ')}.`
}

function fieldTable({ result }: Envelope): string {
  return markdown(
    rowsOf(result)
      .filter(({ field }) => !/^samples|^figures\.|^rounds\[\d+\]\.(tree|commit)\.|\.parts\[/.test(String(field)))
      .slice(0, ROWS_MAX),
  )
}

/** The parts of a profile and the figures of a comparison: too many for rows of their own fields. */
function ownTables({ scenario, result }: Envelope): string[] {
  if (scenario === 'profile') return [markdown(partRows(result as unknown as Sides))]
  if (scenario === 'against') return [markdown(comparisonRows(result as Comparison))]
  return []
}

function markdown(rows: readonly Row[]): string {
  const names = [...new Set(rows.flatMap((row) => Object.keys(row)))]
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`
  return [
    line(names),
    line(names.map(() => '---')),
    ...rows.map((row) => line(names.map((name) => cell(row[name]).replaceAll('|', '\\|')))),
  ].join('\n')
}
