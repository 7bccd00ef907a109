import { readFileSync } from 'node:fs'
import t from 'tap'
import { AGAINST_CODES } from '../../bench/against/error.js'
import { REFERENCE_HEADING, reference } from '../../bench/reference.js'
import { scenarios } from '../../bench/scenarios/index.js'

t.test('the reference in docs/bench.md equals the options and fields of all scenarios', async (t) => {
  const text = readFileSync('docs/bench.md', 'utf8')
  t.equal(text.slice(text.indexOf(REFERENCE_HEADING)), reference(scenarios), 'npm run -s bench -- reference prints it')
})

t.test('docs/bench.md has a row for each error code of --against', async (t) => {
  const text = readFileSync('docs/bench.md', 'utf8')
  for (const code of AGAINST_CODES) t.match(text, `\n| \`${code}\` |`)
})

t.test('every scenario of the documentation exists and has its documented result fields', async (t) => {
  const promised: Record<string, string[]> = {
    idle: [
      'connections',
      'rampSeconds',
      'connectsPerSecond',
      'serverRssBytesPerConnection',
      'bareRssBytesPerConnection',
      'kernelBytesPerConnection',
      'idleCores',
      'unexpectedDisconnects',
    ],
    unicast: [
      'deliveredPerSecond',
      'latencyMs',
      'workerCpuMicrosPerDelivery',
      'bareCpuMicrosPerDelivery',
      'ratioToBare',
      'lost',
      'duplicates',
    ],
    broadcast: ['deliveriesPerSecond', 'bareDeliveriesPerSecond', 'ratioToBare', 'lastDeviceMs', 'lost'],
    connect: [
      'fullHandshakesPerSecond',
      'resumedPerSecond',
      'bareUpgradesPerSecond',
      'fullCpuMicros',
      'resumedCpuMicros',
      'bareCpuMicros',
    ],
    profile: ['of', 'connections', 'ratioToBare', 'borealis', 'bare'],
    storm: ['secondsTo50', 'secondsTo99', 'secondsTo100', 'plainRampSeconds', 'refused', 'lost', 'duplicatesSeenByApp'],
    pipeline: ['acceptedPerSecond', 'deliveredPerSecond', 'latencyMs', 'cpuMicrosPerMessage', 'lost', 'duplicates'],
    catchup: ['connections', 'queued', 'caughtUpMs', 'seconds', 'lost', 'duplicates'],
    accept: ['single', 'batch', 'ingress'],
    wire: ['connect', 'resume', 'push', 'idleHour'],
    peers: ['peers'],
    soak: ['samples', 'lost', 'duplicates'],
    hostile: ['quietLatencyMs', 'hostileLatencyMs'],
    hold: [
      'connections',
      'rampSeconds',
      'connectsPerSecond',
      'unexpectedDisconnects',
      'serverRssBytes',
      'serverPssBytes',
      'totalMemoryBytes',
      'kernelBytes',
      'natsRssBytes',
      'generatorRssBytes',
      'idleCores',
      'pushes',
      'broadcast',
      'kill',
      'rollingRestart',
      'lost',
    ],
    reads: ['quiet', 'besideReads', 'p99Ratio', 'reads'],
    records: ['bytes', 'contentBytes'],
    scale: ['sizes', 'ratio', 'lost'],
  }
  const given = Object.fromEntries(scenarios.map(({ name, result }) => [name, Object.keys(result.properties)]))
  t.same(Object.keys(given).sort(), Object.keys(promised).sort())
  for (const [name, fields] of Object.entries(promised)) {
    t.same(
      fields.filter((field) => !given[name]?.includes(field)),
      [],
      name,
    )
  }
})
