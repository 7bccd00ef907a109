import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { compareRounds } from '../../bench/against/figures.js'
import type { Envelope } from '../../bench/envelope.js'
import type { Cost, Part } from '../../bench/profile/cost.js'
import { makeReport } from '../../bench/report/report.js'
import { barChart } from '../../bench/report/svg.js'

const envelope = (scenario: string, result: Record<string, unknown>): Envelope => ({
  scenario,
  command: `${scenario} --connections 10`,
  parameters: {},
  result,
  machine: { cpu: 'a processor', cores: 2, memoryBytes: 2 ** 34, kernel: '6.1' },
  versions: { borealis: '0.1.0', node: 'v20', uWebSockets: '20.30', natsServer: 'v2.9' },
  commit: 'abc',
  startedAt: '2026-01-01T00:00:00.000Z',
  seconds: 3,
})

const cost = (parts: Omit<Part, 'functions'>[]): Cost => ({
  operations: 10,
  cpuMicros: 5,
  profiledCpuMicros: 6,
  samples: 20,
  samplesOnTime: 15,
  parts: parts.map((part) => ({ ...part, functions: [{ name: 'f', micros: 1 }] })),
})

t.test('a report has the goals, tables and charts of all results, and no others', async (t) => {
  const folder = t.testdir()
  mkdirSync(join(folder, 'charts'))
  writeFileSync(join(folder, 'charts', 'stale.svg'), 'of an earlier result')
  const results = {
    unicast: envelope('unicast', { ratioToBare: 1.33, lost: 2, workerCpuMicrosPerDelivery: 20, latencyMs: { p99: 9 } }),
    soak: envelope('soak', {
      samples: [
        { atSeconds: 0, coreRssBytes: 1e8, natsRssBytes: 5e7, workerRssBytes: [6e7, 6e7] },
        { atSeconds: 2, coreRssBytes: 1e8, natsRssBytes: 5e7, workerRssBytes: [6e7, 7e7] },
      ],
    }),
    '500k': envelope('hold', {
      connections: 500_000,
      idleCores: 0.6,
      lost: 0,
      serverPssBytes: 2 ** 30,
      rollingRestart: { p99: 900 },
    }),
    scale: envelope('scale', { ratio: 1.1, sizes: [{ connections: 10, workerCpuMicrosPerDelivery: 9 }] }),
    resume: envelope('profile', {
      of: 'resume',
      borealis: cost([{ part: 'src/transport/admission/ticket.ts', micros: 3.5, percent: 70 }]),
      bare: cost([{ part: 'uWebSockets.js', micros: 2, percent: 100 }]),
    }),
    'idle-against': envelope('against', {
      of: 'idle',
      tree: 'abc',
      commit: 'def',
      ...compareRounds([{ tree: { idleCores: 3 }, commit: { idleCores: 2 } }]),
      rounds: [{ tree: { idleCores: 3 }, commit: { idleCores: 2 } }],
    }),
    'unknown-one': envelope('hostile', { p99Ratio: 1.1 }),
  }
  for (const [name, result] of Object.entries(results)) {
    writeFileSync(join(folder, `${name}.json`), JSON.stringify(result))
  }
  const text = readFileSync(await makeReport(folder), 'utf8')
  t.match(text, /worker CPU of an acknowledged delivery, relative to a bare server \| at most 1.4 \| 1.33 \| yes \|/)
  t.match(text, /lost \| at most 0 \| 2 \| no \|/)
  t.notMatch(text, /mosquitto/, 'a goal without a result has no row')
  t.match(text, /Not measured: (?!.*unicast).*peers.*\./, 'a goal without a result is listed as not measured')
  t.match(text, /p99Ratio \| 1.1/)
  t.match(text, /idle cores at 500,000 devices \| at most 0.5 \| 0.6 \| no \|/)
  t.match(text, /borealis\.cpuMicros \| 5 \|/)
  t.match(
    text,
    /src\/transport\/admission\/ticket\.ts \| 3\.5 \| 70 \| {2}\| f 1 \|/,
    'a profile has a row for each part',
  )
  t.match(text, /uWebSockets\.js \| {2}\| {2}\| 2 \|/)
  t.notMatch(text, /parts\[/)
  t.match(text, /idleCores \| 3 \(3\.\.3\) \| 2 \(2\.\.2\) \| 1\.5 \|/, 'a comparison has a row for each figure')
  t.notMatch(text, /rounds\[0\]\.tree/)
  t.match(text, /rolling restart \| at most 2,?000 ms \| 900 ms \| yes \|/)
  t.same(
    readdirSync(join(folder, 'charts')).sort(),
    ['500k.svg', 'resume.svg', 'scale.svg', 'soak.svg', 'unicast.svg'],
    'the chart of an earlier report is removed',
  )
  t.match(readFileSync(join(folder, 'charts', 'soak.svg'), 'utf8'), /<polyline points="90\.0,/)
})

t.test('a folder without results, or with an invalid one, is refused', async (t) => {
  await t.rejects(makeReport(t.testdir()), /no results/)
  const folder = t.testdir({ 'x.json': '{"scenario":"idle"}' })
  await t.rejects(makeReport(folder), /x\.json is no result/)
})

t.test('the lengths of bars are proportional to their values, and names are escaped', async (t) => {
  const svg = barChart({
    title: 'a < b & "c"',
    subtitle: '',
    groups: [
      { label: 'one', bars: [{ name: 'one', value: 50 }] },
      { label: 'two', bars: [{ name: 'two', value: 100 }] },
    ],
  })
  const widths = [...svg.matchAll(/<rect x="170"[^>]* width="([\d.]+)"/g)].map((match) => Number(match[1]))
  t.equal((widths[1] ?? 0) / (widths[0] ?? 1), 2)
  t.match(svg, 'a &lt; b &amp; &quot;c&quot;')
})
