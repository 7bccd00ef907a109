/**
 * README.md and docs/evidence/ quote results of bench/results/. These tests make each quotation again from the result
 * file, so a new result fails until the document quotes it.
 */
import { readFileSync } from 'node:fs'
import t from 'tap'

type Json = Record<string, unknown>

const files = new Map<string, unknown>()

function file(name: string): unknown {
  if (!files.has(name)) files.set(name, JSON.parse(readFileSync(`bench/results/${name}.json`, 'utf8')))
  return files.get(name)
}

/** The number at a dotted path of a result file. Throws TypeError if there is none. */
function at(name: string, path: string, root: unknown = file(name)): number {
  const value = path.split('.').reduce<unknown>((inner, key) => (inner as Json | undefined)?.[key], root)
  if (typeof value !== 'number') throw new TypeError(`${name}.json has no number at ${path}`)
  return value
}

/** A field of a result of the load tool. */
const bench = (name: string, path: string) => at(name, `result.${path}`)
const grouped = (value: number) => Math.round(value).toLocaleString('en-US')
const fixed = (value: number, digits: number) => value.toFixed(digits)

interface FaultRun {
  fault: string
  injections: number
  targets: number
  lost: number
  appDuplicates: number
  phantoms: number
  recoveryMs: number[]
}

const kills = ['worker', 'core', 'nats'].map((part) => file(`faults-${part}-kill`) as FaultRun)
const others = file('faults-others') as FaultRun[]
const sumOf = (runs: FaultRun[], field: 'injections' | 'targets' | 'lost' | 'appDuplicates' | 'phantoms') =>
  runs.reduce((sum, run) => sum + run[field], 0)

/** The end of a row of reliability.md: injections, targets and recovery of the named faults together. */
function faultRow(...names: string[]): string {
  const runs = names.map((name) => {
    const run = others.find(({ fault }) => fault === name)
    if (!run) throw new TypeError(`faults-others.json has no ${name}`)
    return run
  })
  const sorted = runs.flatMap(({ recoveryMs }) => recoveryMs).sort((a, b) => a - b)
  const seconds = (share: number) =>
    Number(((sorted[Math.ceil(sorted.length * share) - 1] ?? Number.NaN) / 1000).toFixed(2))
  return `| ${sumOf(runs, 'injections')} | ${grouped(sumOf(runs, 'targets'))} | ${seconds(0.5)} s, ${seconds(0.99)} s |`
}

function killRow(run: FaultRun): string {
  const { p50, p99 } = (run as unknown as { recoverySeconds: { p50: number; p99: number } }).recoverySeconds
  return `| ${run.injections} | ${grouped(run.targets)} | ${run.lost} | ${run.appDuplicates} | ${run.phantoms} | ${p50} s, ${p99} s |`
}

const faultsOfConnection = (name: string) => ['cut', 'delay', 'stall', 'swallow'].map((fault) => `${name}-${fault}`)
const megabytes = (bytes: number) => fixed(bytes / 1e6, 1)
const gigabytes = (name: string) => `${fixed(bench(name, 'totalMemoryBytes') / 1e9, 1)} GB`
const idleCores = (name: string) =>
  ['idleCores', 'natsIdleCores', 'generatorIdleCores'].map((field) => fixed(bench(name, field), 2)).join(', ')
const mqttRow = (row: string) => {
  const [ours, mqtt] = [bench('wire', `${row}.borealis.total`), bench('wire', `${row}.mqtt.total`)]
  return `| ${ours} bytes | ${mqtt} bytes | ${fixed(ours / mqtt, 2)} |`
}
const peer = (name: string) => {
  const { peers } = (file('peers') as { result: { peers: { peer: string; unicastPerCpuSecondInAll: number }[] } })
    .result
  return peers.find((row) => row.peer === name)?.unicastPerCpuSecondInAll ?? Number.NaN
}

const quotations: Record<string, () => string[]> = {
  'README.md': () => [
    `${sumOf(kills, 'injections')} kills of worker, core or nats-server under load: [${sumOf(kills, 'lost')} of ${grouped(sumOf(kills, 'targets'))} lost]`,
    `${others.length} other faults, ${grouped(sumOf(others, 'injections'))} injections: [${sumOf(others, 'lost')} of ${grouped(sumOf(others, 'targets'))} lost]`,
    `${Math.floor(at('hostile-10000000', 'frames') / 1e6)} million hostile frames: [${at('hostile-10000000', 'exits')} crashes, ${at('hostile-10000000', 'wrongDevice')} pushes to a wrong device]`,
    `[${grouped(bench('pipeline', 'deliveredPerSecond'))} a second, p99 ${fixed(bench('pipeline', 'latencyMs.p99'), 0)} ms at half of that]`,
    `${grouped(bench('500k', 'connections'))} devices, idle: [${gigabytes('500k')}, ${fixed(bench('500k', 'idleCores'), 2)} cores of workers]`,
    `under ${grouped(bench('hold-100000', 'connections'))} devices: [${bench('hold-100000', 'rollingRestart.lost')} lost, p99 of pushes ${fixed(bench('hold-100000', 'rollingRestart.p99'), 0)} ms]`,
  ],
  'docs/evidence/reliability.md': () => [
    ...kills.map(killRow),
    `${sumOf(kills, 'injections')} kills, ${grouped(sumOf(kills, 'targets'))} targets, none lost`,
    `${others.length} other faults, ${grouped(sumOf(others, 'injections'))} injections, ${grouped(sumOf(others, 'targets'))} targets`,
    `| one of two cores ${faultRow('core-kill-of-two')}`,
    `| the supervisor of the workers ${faultRow('supervisor-kill')}`,
    `| nats-server, and the core while nats-server comes back ${faultRow('nats-core-kill')}`,
    `| all devices and producers ${faultRow('devices-kill')}`,
    `| a worker ${faultRow('worker-term')}`,
    `| the supervisor ${faultRow('supervisor-term')}`,
    `| the core ${faultRow('core-term')}`,
    `| nats-server ${faultRow('nats-term')}`,
    `| nats-server, core and transport, one after the other ${faultRow('rolling-restart')}`,
    `| worker, supervisor, core or nats-server ${faultRow('worker-freeze', 'supervisor-freeze', 'core-freeze', 'nats-freeze')}`,
    `| device to transport ${faultRow(...faultsOfConnection('device-transport'))}`,
    `| transport to nats-server ${faultRow(...faultsOfConnection('transport-nats'))}`,
    `| core to nats-server ${faultRow(...faultsOfConnection('core-nats'))}`,
    `| app server to core ${faultRow(...faultsOfConnection('app-core'))}`,
    `| devices move to another connection while messages are in flight ${faultRow('devices-move')}`,
    `| devices read nothing for a while ${faultRow('devices-slow')}`,
    `| devices vanish without closing, and return on another socket ${faultRow('devices-half-open')}`,
    `| queues of devices overflow (the count in each GAP is exact) ${faultRow('queue-overflow')}`,
    `| the core's clock is an hour off ${faultRow('core-clock')}`,
    `| the transport's clock is an hour off ${faultRow('transport-clock')}`,
    `| the session table is lost ${faultRow('sessions-lost')}`,
    `| the stream of accepted messages is full ${faultRow('messages-full')}`,
    `| the stream of device queues is full ${faultRow('parked-full')}`,
    `| the stream of events is full ${faultRow('events-full')}`,
    `| the stream of group messages is full ${faultRow('broadcast-full')}`,
    `| the disk under nats-server is full ${faultRow('disk-full')}`,
    `| **Several kills and freezes that overlap** ${faultRow('several')}`,
    ...(['sim-100000', 'sim-100000-2', 'sim-since', 'sim-2000'] as const).map(
      (name) =>
        `[${name}.json](../../bench/results/${name}.json) | ${grouped(at(name, 'seeds'))} | ${at(name, 'violations')}`,
    ),
    `seed ${at('sim-100000-2', 'firstViolation.seed')}`,
    `All ${at('mutants', 'mutations')} are caught`,
    `over ${grouped(at('hostile-10000000', 'connections'))} connections`,
    `| processes that ended | ${at('hostile-10000000', 'exits')} |`,
    `| errors logged | ${at('hostile-10000000', 'errorsLogged')} |`,
    `| pushes that reached the wrong device | ${at('hostile-10000000', 'wrongDevice')} |`,
    `| pushes lost by well-behaved devices | ${at('hostile-10000000', 'lost')} |`,
    `| closes or answers that are not documented | ${at('hostile-10000000', 'surprises')} |`,
    `${megabytes(at('hostile-10000000', 'rssBytes.start'))} MB, ${megabytes(at('hostile-10000000', 'rssBytes.end'))} MB`,
  ],
  'docs/evidence/performance.md': () => [
    `| ${grouped(bench('pipeline', 'deliveredPerSecond'))} a second, none lost |`,
    `p50 ${fixed(bench('pipeline', 'latencyMs.p50'), 0)} ms, p99 ${fixed(bench('pipeline', 'latencyMs.p99'), 0)} ms`,
    `${grouped(bench('accept', 'single.acceptedPerSecond'))} a second, p99 ${fixed(bench('accept', 'single.latencyMs.p99'), 0)} ms at half`,
    `| ${grouped(bench('accept', 'batch.acceptedPerSecond'))} a second |`,
    `| ${grouped(bench('accept', 'ingress.acceptedPerSecond'))} a second |`,
    ...(['single', 'batch', 'ingress'] as const).map((way) => {
      const [core, nats] = ['core', 'nats'].map((part) =>
        fixed(bench('accept', `${way}.cpuMicrosPerMessage.${part}`), 0),
      )
      return `| ${core} | ${nats} | ${grouped(bench('accept', `${way}.acceptedPerSecond`))} |`
    }),
    `${grouped(bench('unicast', 'deliveredPerSecond'))} a second, p99 ${fixed(bench('unicast', 'latencyMs.p99'), 1)} ms`,
    `${bench('unicast', 'ratioToBare')} times: ${fixed(bench('unicast', 'workerCpuMicrosPerDelivery'), 1)} us and ${fixed(bench('unicast', 'bareCpuMicrosPerDelivery'), 1)} us`,
    `${bench('peers', 'unicastRatioToMosquitto')} times: ${grouped(peer('borealis'))} and ${grouped(peer('mosquitto'))}`,
    `${fixed(peer('bare') / peer('mosquitto'), 1)} times as many deliveries as mosquitto for a second of CPU (${grouped(peer('bare'))} and ${grouped(peer('mosquitto'))})`,
    `${fixed(bench('broadcast', 'ratioToBare'), 2)} times: ${grouped(bench('broadcast', 'deliveriesPerSecond'))} a second`,
    `${bench('idle', 'ratioToBare')} times: ${bench('idle', 'serverRssBytesPerConnection')} and ${bench('idle', 'bareRssBytesPerConnection')} bytes`,
    `of which ${bench('idle', 'serverHeapBytesPerConnection')} are JavaScript objects; a bare server needs ${bench('idle', 'bareRssBytesPerConnection')} and ${bench('idle', 'bareHeapBytesPerConnection')} (`,
    `${fixed(bench('connect', 'resumedRatioToBare'), 1)} times: ${fixed(bench('connect', 'resumedCpuMicros'), 0)} us and ${fixed(bench('connect', 'bareCpuMicros'), 0)} us`,
    `${fixed(bench('connect', 'fullRatioToBare'), 1)} times: ${fixed(bench('connect', 'fullCpuMicros'), 0)} us`,
    `${fixed(bench('connect', 'resumedCpuMicros'), 0)} us of the worker and ${fixed(bench('connect', 'natsResumedCpuMicros'), 0)} us of nats-server, a first connect ${fixed(bench('connect', 'fullCpuMicros'), 0)} us and ${fixed(bench('connect', 'natsFullCpuMicros'), 0)} us`,
    `p99 ${fixed(bench('catchup', 'caughtUpMs.p99') / 1000, 2)} s, none lost`,
    `${grouped(bench('catchup', 'connectsPerSecond'))} a second; ${fixed(bench('catchup', 'seconds'), 1)} s for all`,
    `${fixed(bench('catchup', 'cpuMicrosPerMessage.nats'), 0)} us of nats-server, ${fixed(bench('catchup', 'cpuMicrosPerMessage.worker'), 0)} us of the worker and ${fixed(bench('catchup', 'cpuMicrosPerMessage.core'), 0)} us of the core`,
    `${fixed(bench('storm-100000', 'ratioToPlain'), 2)} times: ${fixed(bench('storm-100000', 'secondsTo99'), 0)} s; none lost, slowest API answer ${fixed(bench('storm-100000', 'apiSlowestMs'), 0)} ms`,
    `${fixed(bench('hold-100000', 'rollingRestart.seconds'), 0)} s, each device moved once, p99 of pushes ${fixed(bench('hold-100000', 'rollingRestart.p99'), 0)} ms, none lost`,
    `| ${[0, 1, 2, 3].map((size) => Number(bench('scale', `sizes.${size}.ratioToFirst`).toFixed(2))).join(', ')} times |`,
    `| first connect, both directions ${mqttRow('connect')}`,
    `| reconnect ${mqttRow('resume')}`,
    `| one push with its acknowledgement ${mqttRow('push')}`,
    `| one idle hour, keepalive every two minutes ${mqttRow('idleHour')}`,
    `A push costs ${bench('wire', 'pushOverheadDown')} bytes beyond its content, ${bench('wire', 'pushOverheadBoth')} with`,
    `${fixed(bench('profile-unicast', 'borealis.cpuMicros'), 1)} us and ${fixed(bench('profile-unicast', 'bare.cpuMicros'), 1)} us, ${bench('profile-unicast', 'ratioToBare')} times`,
  ],
  'docs/evidence/capacity.md': () => [
    ...['hold-100000', '500k', '1m'].flatMap((name) => [
      `| ${grouped(bench(name, 'connectsPerSecond'))} `,
      gigabytes(name),
      idleCores(name),
      `${fixed(bench(name, 'pushes.p50'), 0)} ms, ${grouped(bench(name, 'pushes.p99'))} ms`,
      `| ${bench(name, 'workers')}, ${bench(name, 'generators')} `,
    ]),
    `| ${fixed(bench('hold-100000', 'broadcast.lastDeviceMs') / 1000, 1)} s | ${fixed(bench('500k', 'broadcast.lastDeviceMs') / 1000, 1)} s | ${fixed(bench('1m', 'broadcast.lastDeviceMs') / 1000, 0)} s |`,
    `| ${fixed(bench('hold-100000', 'kill.secondsTo99'), 0)} s | ${fixed(bench('500k', 'kill.secondsTo99'), 0)} s | not within 5 minutes |`,
    `| ${fixed(bench('hold-100000', 'rollingRestart.seconds'), 0)} s, ${fixed(bench('hold-100000', 'rollingRestart.p99'), 0)} ms | ${fixed(bench('500k', 'rollingRestart.seconds'), 0)} s, ${fixed(bench('500k', 'rollingRestart.p99'), 0)} ms |`,
    `Its ${grouped(bench('1m', 'kill.devices'))} devices`,
    `${grouped(bench('1m', 'kill.othersDisconnected'))} devices of other workers`,
    `${grouped(bench('1m', 'lost'))} pushes were undelivered`,
    `(${grouped(bench('1m', 'kill.lost'))} at the end of the kill phase)`,
    `${fixed(bench('500k', 'bytesPerConnection.server') / 1000, 1)} KB each`,
    `${fixed(bench('500k', 'bytesPerConnection.kernel') / 1000, 1)} KB for both ends`,
    `${fixed(bench('1m', 'bytesPerConnection.nats') / 1000, 1)} KB for the session and the device record`,
    `${fixed(bench('1m', 'storeBytesPerDevice.sessions'), 0)} bytes of session, ${fixed(bench('1m', 'storeBytesPerDevice.devices'), 0)} bytes of device record`,
    `${fixed(bench('connect', 'resumedCpuMicros'), 0)} us, ${fixed(bench('connect', 'fullCpuMicros'), 0)} us of a worker; ${fixed(bench('connect', 'natsResumedCpuMicros'), 0)} us, ${fixed(bench('connect', 'natsFullCpuMicros'), 0)} us of nats-server`,
    `core ${fixed(bench('pipeline', 'cpuMicrosPerMessage.core'), 0)} us, nats-server ${fixed(bench('pipeline', 'cpuMicrosPerMessage.nats'), 0)} us, worker ${fixed(bench('pipeline', 'cpuMicrosPerMessage.worker'), 0)} us`,
    `${fixed(bench('500k', 'idleCores') / 5, 3)} worker cores and ${fixed(bench('500k', 'natsIdleCores') / 5, 3)} nats-server cores`,
    `worker ${fixed(bench('broadcast', 'workerCpuMicrosPerDelivery'), 1)} us for each device`,
  ],
}

const oneLine = (text: string) => text.replaceAll(/\s+/g, ' ')

for (const [document, quoted] of Object.entries(quotations)) {
  t.test('reliability.md quotes the simulated year', async (t) => {
    const year = file('year') as Record<string, number>
    const { accepted = 0, judged = 0, renewals = 0, seconds = 0 } = year
    t.match(year, { ok: true, lost: 0, days: 365, devices: 2_000, rotations: 12 })
    const text = readFileSync('docs/evidence/reliability.md', 'utf8').replaceAll(/\s+/g, ' ')
    for (const quoted of [
      `${grouped(accepted)} messages accepted, ${grouped(judged)} targets judged, ${grouped(renewals)} tokens renewed`,
      `in ${grouped(seconds)} s beside`,
    ]) {
      t.ok(text.includes(quoted), quoted)
    }
  })

  t.test(`${document} quotes the committed results`, async (t) => {
    const text = oneLine(readFileSync(document, 'utf8'))
    t.same(
      quoted().filter((quotation) => !text.includes(oneLine(quotation))),
      [],
      'each of these stands in the document',
    )
  })
}

t.test('each fault run of the evidence lost, repeated and invented no push', async (t) => {
  for (const run of [...kills, ...others]) {
    t.same([run.lost, run.appDuplicates, run.phantoms], [0, 0, 0], run.fault)
  }
})

t.test('the simulation caught every mutation of the evidence', async (t) => {
  const { verdicts } = file('mutants') as { verdicts: { name: string; caught: boolean }[] }
  t.equal(verdicts.length, at('mutants', 'mutations'))
  t.same(
    verdicts.filter(({ caught }) => !caught).map(({ name }) => name),
    [],
  )
})
