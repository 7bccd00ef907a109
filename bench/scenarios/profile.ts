/** Where the CPU of a delivery or a handshake goes, by parts of the code, beside bare uWebSockets.js. */
import { join } from 'node:path'
import Type, { type Static } from 'typebox'
import { significant } from '../measure/stats.js'
import type { Measurement } from '../measurement.js'
import { Cost, costOf } from '../profile/cost.js'
import { type Load, loads } from '../profile/loads.js'
import { keepProfiles, Profiler } from '../profile/profiler.js'
import { partRows } from '../profile/table.js'
import { type Bench, defineScenario } from '../scenario.js'
import { connections, generators, inFlight, messages, rate, rounds, window, workers } from './options.js'

const Options = Type.Object({
  of: Type.Union(
    [Type.Literal('unicast'), Type.Literal('broadcast'), Type.Literal('connect'), Type.Literal('resume')],
    {
      default: 'unicast',
      description:
        'the load: deliveries as in `unicast` or `broadcast`, handshakes with a token or with a ticket as in `connect`',
    },
  ),
  connections: connections(),
  seconds: Type.Integer({
    default: 10,
    minimum: 1,
    maximum: 600,
    description: 'of unicast to each side, all rounds together; as long without the profiler',
  }),
  rounds: rounds(),
  rate: rate(),
  window,
  messages: messages(' of broadcast'),
  inFlight,
  workers,
  generators,
  keep: Type.String({
    default: '',
    description: 'folder for the .cpuprofile of each server, to be opened in any viewer',
  }),
})
type Options = Static<typeof Options>

const Result = Type.Object({
  of: Type.String(),
  connections: Type.Integer(),
  /** CPU per operation, without the profiler: the worker's by that of bare. */
  ratioToBare: Type.Number(),
  /** The profiler's thread ran before all others, which needs root and chrt: without, contended cores bias the samples. */
  samplerFirst: Type.Boolean(),
  borealis: Cost,
  bare: Cost,
})
type Result = Static<typeof Result>

export const profile = defineScenario({
  name: 'profile',
  summary: 'what a delivery or a handshake costs a worker, by parts of the code, beside bare uWebSockets.js',
  options: Options,
  result: Result,
  run,
  show: (result) => [
    ...partRows(result),
    { part: `in all, ratio ${result.ratioToBare}`, us: result.borealis.cpuMicros, 'bare us': result.bare.cpuMicros },
  ],
})

async function run(bench: Bench, options: Options): Promise<Result> {
  const profiler = new Profiler(join(bench.folder, 'profiles'))
  const load = await loads[options.of](bench, { ...options, seconds: options.seconds / options.rounds }, profiler)
  const plain = await inTurns(bench, load, options.rounds, 'without the profiler')
  const samplerFirst = await profiler.start([...load.borealis.processes.serverPids, ...load.bare.processes.serverPids])
  if (!samplerFirst) bench.progress.say('no root, or no chrt: where cores are busy, samples are missing')
  const profiled = await inTurns(bench, load, options.rounds, 'with the profiler')
  const cost = async (side: keyof Load): Promise<Cost> => {
    const profiles = await profiler.stop(load[side].processes.serverPids)
    if (options.keep !== '') await keepProfiles(options.keep, `${options.of}-${side}`, profiles)
    return costOf({
      plain: plain.map((round) => round[side]),
      profiled: profiled.map((round) => round[side]),
      profiles,
    })
  }
  const borealis = await cost('borealis')
  const bare = await cost('bare')
  return {
    of: options.of,
    connections: options.connections,
    ratioToBare: significant(borealis.cpuMicros / bare.cpuMicros, 3),
    samplerFirst,
    borealis,
    bare,
  }
}

/** The first round is not counted: what never ran is not compiled yet, and a profiler that starts looks through all code. */
async function inTurns(
  { progress }: Bench,
  { borealis, bare }: Load,
  rounds: number,
  label: string,
): Promise<Record<keyof Load, Measurement>[]> {
  const measured: Record<keyof Load, Measurement>[] = []
  for (let round = 0; round <= rounds; round++) {
    progress.bar(label, round, rounds + 1)
    const both = { borealis: await borealis.round(), bare: await bare.round() }
    if (round > 0) measured.push(both)
  }
  return measured
}
