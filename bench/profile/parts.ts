/**
 * What the samples of a .cpuprofile say: how much of the time that JavaScript had went to which part of the code.
 *
 * V8 asks for a sample at even distances, whether the thread runs or not; what counts here is the time in which it ran. So each
 * sample stands for the usual distance, not for the one that it has: a greater one is time without a core. One that was asked for
 * without a core comes late, when the thread has one again, wherever that happens to be: it is known by the next one, which
 * follows too soon, and left out.
 *
 * What V8 calls idle counts nothing; it is epoll and all native code that runs before JavaScript is called, too, and the
 * profiler cannot tell these from waiting.
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
  /** That count. */
  samples: number
  /** What they stand for. */
  busyMicros: number
  parts: PartTime[]
}

const IDLE = '(idle)'
/** Of the usual distance: signals do not come to the microsecond. */
const TOO_SOON = 0.93
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
    for (const { node, next } of within) {
      const place = places.get(node)
      if (!place || next < usual * TOO_SOON) continue
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
  /** To the next one. */
  next: number
}

function samplesIn({ startTime, samples, timeDeltas }: CpuProfile, windows: readonly Window[]): Sample[] {
  let atMicros = startTime
  return samples.flatMap((node, i) => {
    const [distance = 0, next = Number.POSITIVE_INFINITY] = timeDeltas.slice(i, i + 2)
    atMicros += distance
    const isIn = windows.some(({ fromMicros, toMicros }) => atMicros >= fromMicros && atMicros < toMicros)
    return isIn ? [{ node, distance, next }] : []
  })
}

function partTime([part, times]: readonly [string, ReadonlyMap<string, number>]): PartTime {
  const functions = [...times].map(([name, micros]) => ({ name, micros })).sort((a, b) => b.micros - a.micros)
  return { part, micros: functions.reduce((sum, { micros }) => sum + micros, 0), functions }
}
