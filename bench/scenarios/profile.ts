/** Divides the CPU of a delivery or a handshake among parts of the code, for a worker and for bare uWebSockets.js. */
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
        'the load: deliveries as in `unicast` or `broadcast`, or handshakes as in `connect`, with a token (connect) or a ticket (resume)',
    },
  ),
  connections: connections(),
  seconds: Type.Integer({
    default: 10,
    minimum: 1,
    maximum: 600,
    description: 'seconds of unicast to each side, over all rounds, without the profiler and again with it',
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
    description: 'folder for a .cpuprofile of each server, which any viewer of CPU profiles opens',
  }),
})
type Options = Static<typeof Options>

const Result = Type.Object({
  of: Type.String(),
  connections: Type.Integer(),
  /** CPU per operation of the worker relative to bare, without the profiler. */
  ratioToBare: Type.Number(),
  /** Whether the profiler's thread had priority, which needs root and chrt. Without it, busy cores bias the samples. */
  samplerFirst: Type.Boolean(),
  borealis: Cost,
  bare: Cost,
})
type Result = Static<typeof Result>

export const profile = defineScenario({
  name: 'profile',
  summary: 'CPU of a delivery or a handshake by parts of the code, for a worker and for bare uWebSockets.js',
  options: Options,
  result: Result,
  run,
  show: (result) => [
    ...partRows(result),
    {
      part: `total; relative to bare: ${result.ratioToBare}`,
      us: result.borealis.cpuMicros,
      'bare us': result.bare.cpuMicros,
    },
  ],
})

async function run(bench: Bench, options: Options): Promise<Result> {
  const profiler = new Profiler(join(bench.folder, 'profiles'))
  const load = await loads[options.of](bench, { ...options, seconds: options.seconds / options.rounds }, profiler)
  const plain = await inTurns(bench, load, options.rounds, 'without the profiler')
  const samplerFirst = await profiler.start([...load.borealis.processes.serverPids, ...load.bare.processes.serverPids])
  if (!samplerFirst)
    bench.progress.say(
      'without root and chrt the profiler has no priority: samples are missing while the cores are busy',
    )
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

/** The first round does not count: V8 compiles code when it first runs, and a starting profiler walks through all code. */
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
