/**
 * What the samples of a .cpuprofile say: how much of the time that JavaScript had went to which part of the code.
 *
 * A sample counts as much time as there usually is between two of them, not as much as there was: a greater distance is time
 * in which the thread had no core. (Profiler sees to it that there is little of that.) What V8 calls idle counts nothing; it is
 * epoll and all native code that runs before JavaScript is called, too, and the profiler cannot tell these from waiting.
 */
import { median } from '../measure/stats.js'
import { type CallFrame, type Place, placeOf } from './places.js'

interface ProfileNode {
  id: number
  callFrame: CallFrame
  children?: number[]
}

/** Times in microseconds of the monotonic clock; each delta is the distance from the sample before. */
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

/** Self time by part, and in it by function; what is dearest first. */
export interface PartTime {
  part: string
  micros: number
  functions: { name: string; micros: number }[]
}

export interface Sampled {
  /** That were not idle. */
  samples: number
  /** What they stand for. */
  busyMicros: number
  parts: PartTime[]
}

const IDLE = '(idle)'
const ALWAYS: readonly Window[] = [{ fromMicros: Number.NEGATIVE_INFINITY, toMicros: Number.POSITIVE_INFINITY }]

/** Of several processes together. Only what was sampled within one of the windows counts; default: everything. */
export function partTimes(profiles: readonly CpuProfile[], windows: readonly Window[] = ALWAYS): Sampled {
  const parts = new Map<string, Map<string, number>>()
  let samples = 0
  let busyMicros = 0
  for (const profile of profiles) {
    const places = placesOf(profile)
    const within = samplesIn(profile, windows)
    const usual = median(within.map(({ distance }) => distance))
    for (const { node } of within) {
      const place = places.get(node)
      if (!place) continue
      samples++
      busyMicros += usual
      const functions = parts.get(place.part) ?? new Map<string, number>()
      parts.set(place.part, functions.set(place.name, (functions.get(place.name) ?? 0) + usual))
    }
  }
  return { samples, busyMicros, parts: [...parts].map(partTime).sort((a, b) => b.micros - a.micros) }
}

/** Of each node but those in which nothing was done. */
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
  /** From the sample before, in microseconds. */
  distance: number
}

function samplesIn({ startTime, samples, timeDeltas }: CpuProfile, windows: readonly Window[]): Sample[] {
  let atMicros = startTime
  return samples.flatMap((node, i) => {
    const distance = timeDeltas[i] ?? 0
    atMicros += distance
    const isIn = windows.some(({ fromMicros, toMicros }) => atMicros >= fromMicros && atMicros < toMicros)
    return isIn ? [{ node, distance }] : []
  })
}

function partTime([part, times]: readonly [string, ReadonlyMap<string, number>]): PartTime {
  const functions = [...times].map(([name, micros]) => ({ name, micros })).sort((a, b) => b.micros - a.micros)
  return { part, micros: functions.reduce((sum, { micros }) => sum + micros, 0), functions }
}
