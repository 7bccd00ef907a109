/**
 * Measures whether many status reads at once starve the acceptance of messages: the latency of single POSTs at a fixed
 * rate, first alone and then beside the reads, in one run. No device is connected.
 */
import Type, { type Static } from 'typebox'
import { sampleProject } from '../../src/cli/start/sample.js'
import { MESSAGE, TITLE } from '../content.js'
import { HttpLoad } from '../http-load.js'
import { askAtRate } from '../loops.js'
import { LatencyMs, latencyMs, newHistogram } from '../measure/latency.js'
import { significant } from '../measure/stats.js'
import { startReaders } from '../readers.js'
import { type Bench, BenchError, defineScenario } from '../scenario.js'
import { accessToken, createTenant, newRun, registrationIdOf } from '../system/fleet.js'
import { LocalSystem, systemFolder } from '../system/local-system.js'

const Options = Type.Object({
  reads: Type.Integer({ default: 1_000, minimum: 1, maximum: 4_000, description: 'number of status reads at once' }),
  targets: Type.Integer({ default: 1_000, minimum: 1, maximum: 1_000, description: 'targets of each message read' }),
  messages: Type.Integer({ default: 10, minimum: 1, maximum: 100, description: 'number of messages that are read' }),
  rate: Type.Integer({ default: 1_000, minimum: 1, maximum: 20_000, description: 'POSTs a second' }),
  seconds: Type.Integer({ default: 20, minimum: 1, maximum: 600, description: 'seconds of each of the two phases' }),
  sockets: Type.Integer({ default: 48, minimum: 1, maximum: 1_000, description: 'number of open POSTs' }),
})
type Options = Static<typeof Options>

const Posts = Type.Object({
  accepted: Type.Integer(),
  refused: Type.Integer(),
  /** From the due time of a POST to its answer. */
  latencyMs: LatencyMs,
})
type Posts = Static<typeof Posts>

const Result = Type.Object({
  quiet: Posts,
  besideReads: Posts,
  /** The p99 beside the reads, divided by the p99 alone. */
  p99Ratio: Type.Number(),
  reads: Type.Object({
    /** Of the reads, while the POSTs went on. */
    answered: Type.Integer(),
    /** Answers `overloaded`; each such read was repeated after its Retry-After. */
    refused: Type.Integer(),
    failed: Type.Integer(),
    targetsPerSecond: Type.Number(),
    seconds: Type.Number(),
  }),
})
type Result = Static<typeof Result>

export const reads = defineScenario({
  name: 'reads',
  summary: 'POSTs at a fixed rate, alone and beside many status reads at once: nothing may be refused',
  options: Options,
  result: Result,
  run,
  show: ({ quiet, besideReads, p99Ratio, reads }) => [
    { phase: 'alone', accepted: quiet.accepted, refused: quiet.refused, 'p99 ms': quiet.latencyMs.p99 },
    {
      ...{ phase: 'beside reads', accepted: besideReads.accepted, refused: besideReads.refused },
      ...{ 'p99 ms': besideReads.latencyMs.p99, ratio: p99Ratio },
      ...{ 'reads answered': reads.answered, 'reads refused': reads.refused },
    },
  ],
})

const WARM_UP_SECONDS = 2

async function run(bench: Bench, options: Options): Promise<Result> {
  const system = await LocalSystem.start({
    folder: systemFolder(bench.folder),
    parts: ['core'],
    settings: { limits: { messagesPerSecond: 1_000_000, requestsPerSecond: 1_000_000 } },
    onNotice: (text) => bench.progress.say(text),
  })
  bench.defer(() => system.stop())
  const broker = await system.brokerAs('core')
  const fleet = await createTenant(broker, newRun(), sampleProject)
  const token = await accessToken(system, broker, fleet)
  const { port } = system.config.http
  const path = `/push/public/api/v1/projects/${sampleProject}/messages`
  const load = new HttpLoad({ host: '127.0.0.1', port, token, path }, options.sockets)
  bench.defer(() => load.stop())

  const registrations = Array.from({ length: options.targets }, (_, index) => registrationIdOf(system, fleet, index))
  const rest = { ttl: '1h', notification: { title: TITLE, message: MESSAGE } }
  const paths: string[] = []
  for (let n = 0; n < options.messages; n++) {
    const { status, body } = await load.post(JSON.stringify({ type: 'devices', target: registrations, ...rest }))
    if (status !== 202) throw new BenchError(`the service answered a message with ${status}: ${body.slice(0, 500)}`)
    paths.push(`${path}/${(JSON.parse(body) as { id: string }).id}`)
  }
  // Devices of their own, so that no queue of a device grows from both.
  const others = Array.from({ length: 5_000 }, (_, index) => registrationIdOf(system, fleet, options.targets + index))
  let next = 0
  const post = async (counts: { refused: number }) => {
    const target = others[next++ % others.length]
    const { status } = await load.post(JSON.stringify({ type: 'device', target, ...rest }))
    if (status !== 202) counts.refused++
    return status === 202 ? 1 : 0
  }
  const phase = async (seconds: number): Promise<Posts> => {
    const counts = { refused: 0 }
    const latencies = newHistogram()
    const { accepted } = await askAtRate(() => post(counts), options.rate, seconds, latencies)
    return { accepted, refused: counts.refused, latencyMs: latencyMs(latencies) }
  }
  // Also the time for the core to route the messages that are read.
  await phase(WARM_UP_SECONDS)
  bench.progress.say('POSTs alone')
  const quiet = await phase(options.seconds)
  bench.progress.say(`POSTs beside ${options.reads} status reads`)
  const readers = startReaders({ port, token, paths, count: options.reads })
  const besideReads = await phase(options.seconds)
  readers.stop()
  const { answered, refused, failed, targets, seconds } = await readers.result
  return {
    quiet,
    besideReads,
    p99Ratio: significant(besideReads.latencyMs.p99 / quiet.latencyMs.p99),
    reads: {
      answered,
      refused,
      failed,
      targetsPerSecond: Math.round(targets / seconds),
      seconds: significant(seconds),
    },
  }
}
