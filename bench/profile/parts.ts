/**
 * Divides the CPU time of JavaScript in a .cpuprofile among parts of the code.
 *
 * V8 requests a sample at even distances, whether the thread runs or not, but only the time in which it ran counts. If the
 * thread had no core at the request, the sample is taken late, when the thread runs again, and shows its work at that
 * time. Several such requests become one sample. The distance to the next sample shows whether a sample was late:
 *
 *   the usual distance   the sample was on time: it counts, for that distance
 *   a shorter one        the sample was late: it does not count
 *   a longer one         unknown, because the next sample was late: the share of samples on time among the known ones applies
 *
 * V8's idle samples do not count. They include epoll and all native code that runs before JavaScript is called: the profiler
 * cannot tell these from waiting.
 */
import { median } from '../measure/stats.js'
import { type CallFrame, type Place, placeOf } from './places.js'

interface ProfileNode {
  id: number
  callFrame: CallFrame
  children?: number[]
}

/** Times are microseconds of the monotonic clock. Each delta is the distance from the previous sample. */
export interface CpuProfile {
  startTime: number
  nodes: ProfileNode[]
  samples: number[]
  timeDeltas: number[]
}

export interface Window {
  fromMicros: number
  toMicros: number
}

/** Self time of a part and of its functions, longest first. */
export interface PartTime {
  part: string
  micros: number
  functions: { name: string; micros: number }[]
}

export interface Sampled {
  /** Samples that were not idle. */
  samples: number
  /** Those of them that count. */
  samplesOnTime: number
  /** The time that they stand for. */
  busyMicros: number
  parts: PartTime[]
}

const IDLE = '(idle)'
/** Share of the usual distance by which a sample on time may differ. */
const TOLERANCE = 0.05
const ALWAYS: readonly Window[] = [{ fromMicros: Number.NEGATIVE_INFINITY, toMicros: Number.POSITIVE_INFINITY }]

/** The parts of several processes together. Only samples within one of the windows count; default: all samples. */
export function partTimes(profiles: readonly CpuProfile[], windows: readonly Window[] = ALWAYS): Sampled {
  const parts = new Map<string, Map<string, number>>()
  let samples = 0
  let samplesOnTime = 0
  let busyMicros = 0
  for (const profile of profiles) {
    const places = placesOf(profile)
    const within = samplesIn(profile, windows)
    const usual = median(within.map(({ distance }) => distance))
    const busy = within.filter(({ node }) => places.has(node))
    const known = busy.filter(({ next }) => next <= usual * (1 + TOLERANCE))
    const onTime = known.filter(({ next }) => next >= usual * (1 - TOLERANCE))
    samples += busy.length
    if (onTime.length === 0) continue
    samplesOnTime += onTime.length
    const each = (usual * busy.length) / known.length
    busyMicros += onTime.length * each
    for (const { node } of onTime) {
      const { part, name } = places.get(node) as Place
      const functions = parts.get(part) ?? new Map<string, number>()
      parts.set(part, functions.set(name, (functions.get(name) ?? 0) + each))
    }
  }
  return { samples, samplesOnTime, busyMicros, parts: [...parts].map(partTime).sort((a, b) => b.micros - a.micros) }
}

/** The place of each node that is not idle. */
function placesOf({ nodes }: CpuProfile): ReadonlyMap<number, Place> {
  const parents = new Map(nodes.flatMap((node) => (node.children ?? []).map((child) => [child, node] as const)))
  function* callers(node: ProfileNode): Generator<CallFrame> {
    for (let at = parents.get(node.id); at; at = parents.get(at.id)) yield at.callFrame
  }
  const busy = nodes.filter(({ callFrame }) => callFrame.functionName !== IDLE)
  return new Map(busy.map((node) => [node.id, placeOf(node.callFrame, callers(node))]))
}

interface Sample {
  node: number
  /** Microseconds since the previous sample. */
  distance: number
  /** Microseconds to the next sample. */
  next: number
}

function samplesIn({ startTime, samples, timeDeltas }: CpuProfile, windows: readonly Window[]): Sample[] {
  let atMicros = startTime
  return samples.flatMap((node, i) => {
    const { [i]: distance = 0, [i + 1]: next = Number.POSITIVE_INFINITY } = timeDeltas
    atMicros += distance
    const isIn = windows.some(({ fromMicros, toMicros }) => atMicros >= fromMicros && atMicros < toMicros)
    return isIn ? [{ node, distance, next }] : []
  })
}

function partTime([part, times]: readonly [string, ReadonlyMap<string, number>]): PartTime {
  const functions = [...times].map(([name, micros]) => ({ name, micros })).sort((a, b) => b.micros - a.micros)
  return { part, micros: functions.reduce((sum, { micros }) => sum + micros, 0), functions }
}
