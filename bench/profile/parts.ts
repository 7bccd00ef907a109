/**
 * What the samples of a .cpuprofile say: how much of the time that JavaScript had went to which part of the code.
 *
 * V8 asks for a sample at even distances, whether the thread runs or not; what counts here is the time in which it ran. A sample
 * that was asked for while the thread had no core comes late, when it has one again, wherever that happens to be (after
 * `send`, say, which wakes somebody else), and several asked for meanwhile are one. How late is seen from the next one:
 *
 *   at the usual distance   it was on time: it counts, for that distance
 *   sooner                  it was late: it does not count
 *   later                   nobody knows, for the next one was late: as many were on time as of those of which it is known
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
  /** That were not idle. */
  samples: number
  /** Of these, those that count. */
  samplesOnTime: number
  /** What they stand for. */
  busyMicros: number
  parts: PartTime[]
}

const IDLE = '(idle)'
/** Of the usual distance: signals do not come to the microsecond. */
const TOLERANCE = 0.05
const ALWAYS: readonly Window[] = [{ fromMicros: Number.NEGATIVE_INFINITY, toMicros: Number.POSITIVE_INFINITY }]

/** Of several processes together. Only what was sampled within one of the windows counts; default: everything. */
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
