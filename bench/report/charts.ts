/** Draws the charts of a result. */
import type { Envelope } from '../envelope.js'
import { partRows, type Sides } from '../profile/table.js'
import { numberAt } from './goals.js'
import { barChart, lineChart } from './svg.js'

export interface Chart {
  /** Name of the file, without ending. */
  name: string
  title: string
  svg: string
}

type Drawn = Omit<Chart, 'name'> & { suffix?: string }

/** The charts of each scenario. A scenario that is missing here has only a table. */
const drawers: Readonly<Record<string, (result: Envelope['result']) => Drawn[]>> = {
  idle: (r) => [
    bars('Memory of the server per idle connection', 'bytes resident; less is better', [
      ['borealis', numberAt(r, ['serverRssBytesPerConnection'])],
      ['bare uWebSockets.js', numberAt(r, ['bareRssBytesPerConnection'])],
      ['kernel, one socket', numberAt(r, ['kernelBytesPerConnection'])],
    ]),
  ],
  unicast: (r) => [
    bars('CPU per acknowledged delivery', 'microseconds of the server process; less is better', [
      ['borealis worker', numberAt(r, ['workerCpuMicrosPerDelivery'])],
      ['bare uWebSockets.js', numberAt(r, ['bareCpuMicrosPerDelivery'])],
    ]),
  ],
  broadcast: (r) => [
    bars('Broadcast', 'deliveries a second; more is better', [
      ['borealis', numberAt(r, ['deliveriesPerSecond'])],
      ['bare uWebSockets.js', numberAt(r, ['bareDeliveriesPerSecond'])],
    ]),
  ],
  connect: (r) => [
    bars('CPU per handshake', 'microseconds of the server process; less is better', [
      ['full (token)', numberAt(r, ['fullCpuMicros'])],
      ['resumed (ticket)', numberAt(r, ['resumedCpuMicros'])],
      ['bare upgrade', numberAt(r, ['bareCpuMicros'])],
    ]),
  ],
  profile: (r) => [partBars(r)],
  storm: (r) => [
    bars('All workers killed', 'seconds; less is better', [
      ['plain ramp', numberAt(r, ['plainRampSeconds'])],
      ['50% back', numberAt(r, ['secondsTo50'])],
      ['99% back', numberAt(r, ['secondsTo99'])],
      ['all back', numberAt(r, ['secondsTo100'])],
    ]),
  ],
  pipeline: (r) => [
    bars(
      'CPU per message, HTTP to acknowledged device',
      'microseconds of each part; less is better',
      ['core', 'nats', 'worker', 'generator'].map((part) => [part, numberAt(r, ['cpuMicrosPerMessage', part])]),
    ),
  ],
  wire: (r) => [
    {
      title: 'Bytes on the wire',
      svg: barChart({
        title: 'Bytes on the wire',
        subtitle: 'both directions, upgrade and framing included; less is better',
        groups: ['connect', 'resume', 'push', 'idleHour'].map((row) => ({
          label: row === 'idleHour' ? 'idle hour' : row,
          bars: ['borealis', 'mqtt', 'json'].map((name) => ({ name, value: numberAt(r, [row, name, 'total']) })),
        })),
      }),
    },
  ],
  peers: (r) => [
    peerBars(
      r,
      'memory',
      'Memory of the server per connection',
      'bytes resident; less is better',
      'memoryBytesPerConnection',
    ),
    peerBars(
      r,
      'unicast',
      'Unicast per server CPU second',
      'acknowledged deliveries; more is better',
      'unicastPerServerCpuSecond',
    ),
    peerBars(
      r,
      'broadcast',
      'Broadcast per server CPU second',
      'deliveries; more is better',
      'broadcastPerServerCpuSecond',
    ),
  ],
  soak: (r) => [
    {
      title: 'Resident memory while soaking',
      svg: lineChart({
        title: 'Resident memory while soaking',
        subtitle: 'bytes of each process',
        xLabel: 'seconds',
        series: ['coreRssBytes', 'natsRssBytes', 'workerRssBytes'].map((name) => ({
          name: name.replace('RssBytes', ''),
          points: (r.samples as Record<string, unknown>[]).map((sample) => ({
            x: numberAt(sample, ['atSeconds']),
            y: total(sample[name]),
          })),
        })),
      }),
    },
  ],
  hold: (r) => [
    bars(`Memory with ${numberAt(r, ['connections']).toLocaleString('en')} devices`, 'MiB; both ends on one machine', [
      ['transport', mebibytes(r, 'serverPssBytes')],
      ['kernel', mebibytes(r, 'kernelBytes')],
      ['nats-server', mebibytes(r, 'natsRssBytes')],
      ['generators', mebibytes(r, 'generatorPssBytes')],
    ]),
  ],
  scale: (r) => [
    bars(
      'Worker CPU per delivery, by number of sessions',
      'microseconds; less is better',
      (r.sizes as Record<string, unknown>[]).map((size) => [
        numberAt(size, ['connections']).toLocaleString('en'),
        numberAt(size, ['workerCpuMicrosPerDelivery']),
      ]),
    ),
  ],
}

const mebibytes = (result: Envelope['result'], field: string) => Math.round(numberAt(result, [field]) / 2 ** 20)

export function chartsOf(file: string, { scenario, result }: Envelope): Chart[] {
  return (drawers[scenario]?.(result) ?? []).map(({ suffix, title, svg }) => ({
    name: suffix ? `${file}-${suffix}` : file,
    title,
    svg,
  }))
}

function bars(title: string, subtitle: string, values: readonly (readonly [string, number])[]): Drawn {
  const groups = values.map(([label, value]) => ({ label, bars: [{ name: label, value }] }))
  return { title, svg: barChart({ title, subtitle, groups }) }
}

function peerBars(result: Envelope['result'], suffix: string, title: string, subtitle: string, field: string): Drawn {
  const rows = result.peers as Record<string, unknown>[]
  const values = rows.map((row) => [String(row.peer), numberAt(row, [field])] as const)
  return { ...bars(title, subtitle, values), suffix }
}

/** The bars of further parts would be too short to see. */
const BARS_MAX = 14

function partBars(result: Envelope['result']): Drawn {
  const title = `CPU by parts of the code: ${result.of}`
  const subtitle = 'microseconds of the server process for each delivery or handshake; less is better'
  const groups = partRows(result as unknown as Sides)
    .slice(0, BARS_MAX)
    .map((row) => ({
      label: String(row.part),
      bars: [
        { name: 'borealis', value: Number(row.us) },
        { name: 'bare uWebSockets.js', value: Number(row['bare us']) },
      ],
    }))
  return { title, svg: barChart({ title, subtitle, groups }) }
}

const total = (value: unknown) =>
  Array.isArray(value) ? value.reduce((sum: number, one: number) => sum + one, 0) : Number(value)
