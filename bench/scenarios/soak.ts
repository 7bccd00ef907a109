/** A long run with pushes, slow readers and devices that come and go. It shows growing memory and lost messages. */
import Type, { type Static } from 'typebox'
import { type Generators, pause } from '../generator/generators.js'
import { memoryOf } from '../measure/processes.js'
import { type Point, significant, slope } from '../measure/stats.js'
import { Pusher, pushAtRate } from '../pusher.js'
import { type Bench, defineScenario } from '../scenario.js'
import { startWhole, type WholeRig } from '../system/whole.js'
import { connections, generators, workers } from './options.js'

const Options = Type.Object({
  minutes: Type.Number({ default: 1, minimum: 0.05, maximum: 1_440, description: 'minutes of pushing' }),
  connections: connections(2_000),
  rate: Type.Integer({ default: 300, minimum: 1, maximum: 100_000, description: 'pushes a second' }),
  batch: Type.Integer({ default: 10, minimum: 1, maximum: 1_000, description: 'targets of one HTTP request' }),
  churnPercent: Type.Integer({
    default: 5,
    minimum: 0,
    maximum: 100,
    description: 'share of the devices that leave and return every ten seconds',
  }),
  slowPercent: Type.Integer({
    default: 1,
    minimum: 0,
    maximum: 50,
    description: 'share of the devices that read for only one second of ten',
  }),
  workers,
  generators,
})
type Options = Static<typeof Options>

const Sample = Type.Object({
  atSeconds: Type.Number(),
  ready: Type.Integer(),
  coreRssBytes: Type.Integer(),
  natsRssBytes: Type.Integer(),
  workerRssBytes: Type.Array(Type.Integer()),
})
type Sample = Static<typeof Sample>

const Growth = Type.Object({ core: Type.Number(), nats: Type.Number(), worker: Type.Number() })

const Result = Type.Object({
  connections: Type.Integer(),
  minutes: Type.Number(),
  samples: Type.Array(Sample),
  /** Slope over the second half of the run (least squares), when caches are full. */
  growthBytesPerMinute: Growth,
  pushed: Type.Integer(),
  delivered: Type.Integer(),
  /** Neither delivered nor announced by a GAP. */
  lost: Type.Integer(),
  gaps: Type.Integer(),
  duplicates: Type.Integer(),
  duplicatesSeenByApp: Type.Integer(),
  unexpectedDisconnects: Type.Integer(),
  closes: Type.Record(Type.String(), Type.Integer()),
})
type Result = Static<typeof Result>

export const soak = defineScenario({
  name: 'soak',
  summary: 'devices come and go during pushes, and some are slow: memory over time, lost and repeated messages',
  options: Options,
  result: Result,
  run,
  show: ({ samples: _samples, closes: _closes, growthBytesPerMinute: growth, ...result }) => [
    ...Object.entries(result).map(([field, value]) => ({ field, value })),
    ...Object.entries(growth).map(([part, value]) => ({ field: `growth of ${part}, bytes a minute`, value })),
  ],
})

const SAMPLE_MS = 2_000
const CHURN_MS = 10_000
/** A slow device reads every ten seconds only, and gets queued messages after its acknowledgements. */
const DELIVERY_MS_MAX = 60_000

async function run(bench: Bench, options: Options): Promise<Result> {
  const rig = await startWhole(bench, options)
  const { devices } = rig
  await devices.ramp({ count: options.connections })
  const slowEvery = options.slowPercent === 0 ? 0 : Math.round(100 / options.slowPercent)
  await devices.behave({ reconnect: true, slowEvery })
  const pusher = new Pusher(rig, { ...options, ttl: '1h' })
  bench.defer(() => pusher.stop())

  const seconds = options.minutes * 60
  const startedMs = performance.now()
  const samples: Sample[] = []
  const pushing = pushAtRate(pusher, options.batch, { perSecond: options.rate, seconds })
  // The await below reports a failure. Until then it must not end the process.
  pushing.catch(() => undefined)
  let churnedMs = 0
  for (let elapsedMs = 0; elapsedMs < seconds * 1000; elapsedMs = performance.now() - startedMs) {
    bench.progress.bar('soaking', elapsedMs / 1000, seconds, 's')
    samples.push(await sample(rig, elapsedMs))
    if (options.churnPercent > 0 && elapsedMs - churnedMs >= CHURN_MS) {
      churnedMs = elapsedMs
      await churn(devices, options)
    }
    await pause(Math.min(SAMPLE_MS, seconds * 1000 - elapsedMs))
  }
  await pushing
  await devices.behave({ slowEvery: 0 })
  await devices.until(({ delivered }) => delivered >= pusher.accepted, DELIVERY_MS_MAX)
  const totals = await devices.report()
  const undelivered = pusher.accepted - totals.delivered
  return {
    connections: options.connections,
    minutes: options.minutes,
    samples,
    growthBytesPerMinute: growth(samples),
    pushed: pusher.accepted,
    delivered: totals.delivered,
    lost: Math.max(0, undelivered - totals.gapMessages),
    gaps: totals.gapMessages,
    duplicates: totals.duplicatesOnWire,
    duplicatesSeenByApp: totals.duplicatesSeenByApp,
    unexpectedDisconnects: totals.unexpectedDisconnects,
    closes: totals.closes,
  }
}

async function churn(devices: Generators, { connections, churnPercent }: Options): Promise<void> {
  const count = Math.ceil((connections * churnPercent) / 100)
  await devices.leave({ abrupt: false, count })
  await devices.ramp({ count, label: 'back' })
}

async function sample({ system, devices }: WholeRig, elapsedMs: number): Promise<Sample> {
  const rss = (pid: number | undefined) => (pid ? memoryOf(pid).rssBytes : 0)
  return {
    atSeconds: significant(elapsedMs / 1000),
    ready: (await devices.counts()).ready,
    coreRssBytes: rss(system.pids('core')[0]),
    natsRssBytes: rss(system.pids('nats')[0]),
    workerRssBytes: system.pids('worker').map(rss),
  }
}

function growth(samples: readonly Sample[]): Static<typeof Growth> {
  const half = samples.slice(Math.floor(samples.length / 2))
  const perMinute = (value: (one: Sample) => number) => {
    const points: Point[] = half.map((one) => ({ x: one.atSeconds / 60, y: value(one) }))
    return points.length < 2 ? 0 : Math.round(slope(points))
  }
  return {
    core: perMinute((one) => one.coreRssBytes),
    nats: perMinute((one) => one.natsRssBytes),
    worker: perMinute((one) => one.workerRssBytes.reduce((sum, bytes) => sum + bytes, 0)),
  }
}
