/** The loads that `profile` can measure: those of the scenarios unicast, broadcast and connect, on the same sides. */
import { Handshakes } from '../handshakes.js'
import type { Processes } from '../measure/cpu-usage.js'
import type { Measurement } from '../measurement.js'
import { measureBroadcast, measureUnicast } from '../rounds.js'
import type { Bench } from '../scenario.js'
import { baselineSide, borealisSide, type Side } from '../sides.js'
import type { Profiler } from './profiler.js'

export interface LoadOptions {
  connections: number
  workers: number
  generators: number
  /** Seconds of each round of unicast. */
  seconds: number
  rate: number | 'max'
  window: number
  /** Messages of each round of broadcast. */
  messages: number
  inFlight: number
}

/** One server under a load. */
export interface Loaded {
  processes: Processes
  /** Measures one round. */
  round(): Promise<Measurement>
}

export interface Load {
  borealis: Loaded
  bare: Loaded
}

type StartLoad = (bench: Bench, options: LoadOptions, profiler: Profiler) => Promise<Load>

export const loads: Readonly<Record<'unicast' | 'broadcast' | 'connect' | 'resume', StartLoad>> = {
  unicast: async (bench, options, profiler) => {
    const { borealis, bare } = await sides(bench, options, profiler, false)
    const loaded = async (side: Side): Promise<Loaded> => {
      const feed = await side.feed()
      return { processes: side, round: () => measureUnicast(side, feed, options) }
    }
    return { borealis: await loaded(borealis), bare: await loaded(bare) }
  },
  broadcast: async (bench, options, profiler) => {
    const { borealis, bare } = await sides(bench, options, profiler, true)
    const loaded = (side: Side): Loaded => ({
      processes: side,
      round: () => measureBroadcast(side, options.messages),
    })
    return { borealis: loaded(borealis), bare: loaded(bare) }
  },
  connect: async (bench, options, profiler) => {
    const handshakes = await Handshakes.start(bench, options, profiler)
    return handshakesBy(handshakes, () => handshakes.full())
  },
  resume: async (bench, options, profiler) => {
    const handshakes = await Handshakes.start(bench, options, profiler)
    return handshakesBy(handshakes, async () => {
      await handshakes.full()
      return handshakes.resumed()
    })
  },
}

async function sides(
  bench: Bench,
  options: LoadOptions,
  profiler: Profiler,
  registered: boolean,
): Promise<{ borealis: Side; bare: Side }> {
  const borealis = await borealisSide(bench, { ...options, profiler, registered })
  await borealis.devices.ramp({ count: borealis.connections, label: 'borealis' })
  const bare = await baselineSide(bench, 'uws', { ...options, profiler })
  await bare.devices.ramp({ count: bare.connections, label: 'bare' })
  return { borealis, bare }
}

function handshakesBy(handshakes: Handshakes, round: () => Promise<Measurement>): Load {
  return {
    borealis: { processes: handshakes.transport, round },
    bare: { processes: handshakes.bare, round: () => handshakes.upgraded() },
  }
}
