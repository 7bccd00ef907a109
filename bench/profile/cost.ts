/** What one operation (a delivery, a handshake) costs a server, and which part of the code takes how much of it. */
import Type, { type Static } from 'typebox'
import { median, significant } from '../measure/stats.js'
import type { Measurement } from '../measurement.js'
import { type CpuProfile, type PartTime, partTimes } from './parts.js'

const Micros = Type.Object({ name: Type.String(), micros: Type.Number() })

const Part = Type.Object({
  part: Type.String(),
  /** Of CPU, for each operation. */
  micros: Type.Number(),
  percent: Type.Number(),
  /** The dearest ones. */
  functions: Type.Array(Micros),
})
export type Part = Static<typeof Part>

export const Cost = Type.Object({
  /** While it was profiled. */
  operations: Type.Integer(),
  /** Of the servers' CPU for each operation, from the OS: without the profiler, median of the rounds. */
  cpuMicros: Type.Number(),
  /** With the profiler, but for its own thread; all rounds together. */
  profiledCpuMicros: Type.Number(),
  /** Of stacks that did something; on time are those in which the thread had a core. */
  samples: Type.Integer(),
  samplesOnTime: Type.Integer(),
  /** Add up to cpuMicros; what is dearest first. */
  parts: Type.Array(Part),
})
export type Cost = Static<typeof Cost>

/** What the thread of JavaScript did while the profiler saw nothing. */
export const READING = 'reading sockets (native)'
/** V8's helpers (collecting, compiling) and libuv's. */
export const OTHER_THREADS = 'other threads'

/** Parts and functions beyond are one row: there are dozens with a sample or two. */
const PARTS_MAX = 24
const FUNCTIONS_MAX = 4
const REST = 'all others'

export interface Profiled {
  /** Rounds without the profiler. */
  plain: readonly Measurement[]
  /** Rounds with it. */
  profiled: readonly Measurement[]
  /** One of each server process. */
  profiles: readonly CpuProfile[]
}

/**
 * The profiler makes everything slower, its own thread not counted: so shares are of what was used with it, and stand for the same
 * shares of `cpuMicros`.
 */
export function costOf({ plain, profiled, profiles }: Profiled): Cost {
  const windows = profiled.map(({ cpu }) => cpu)
  const { samples, samplesOnTime, parts } = partTimes(profiles, windows)
  const sum = (of: (stretch: Measurement) => number) => profiled.reduce((total, stretch) => total + of(stretch), 0)
  const profiledMicros = sum(({ cpu }) => cpu.serverMicros - cpu.samplerMicros)
  const mainMicros = sum(({ cpu }) => cpu.mainMicros)
  const cpuMicros = median(plain.map(({ cpu, operations }) => cpu.serverMicros / operations))
  const operations = sum((stretch) => stretch.operations)
  const all = shortened(withUnseen(parts, profiledMicros, mainMicros))
  return {
    operations,
    cpuMicros: significant(cpuMicros),
    profiledCpuMicros: significant(profiledMicros / operations),
    samples,
    samplesOnTime,
    parts: all.map((part) => row(scaled(part, cpuMicros / profiledMicros), cpuMicros)),
  }
}

function row({ part, micros, functions }: PartTime, cpuMicros: number): Part {
  return {
    part,
    micros: significant(micros, 3),
    percent: significant((100 * micros) / cpuMicros, 3),
    functions: functions.slice(0, FUNCTIONS_MAX).map((one) => ({ name: one.name, micros: significant(one.micros, 3) })),
  }
}

/**
 * The samples' parts, and the two that no sample shows, from what the OS counted: in all, and for the thread of JavaScript
 * (`mainMicros`). Samples are a statistic: where they come to more than that thread had, they are scaled to it.
 */
export function withUnseen(parts: readonly PartTime[], cpuMicros: number, mainMicros: number): PartTime[] {
  const seenMicros = parts.reduce((sum, { micros }) => sum + micros, 0)
  const factor = Math.min(1, mainMicros / seenMicros)
  return [
    ...parts.map((part) => scaled(part, factor)),
    { part: READING, micros: Math.max(0, mainMicros - seenMicros), functions: [] },
    { part: OTHER_THREADS, micros: cpuMicros - mainMicros, functions: [] },
  ].sort((a, b) => b.micros - a.micros)
}

function scaled({ part, micros, functions }: PartTime, factor: number): PartTime {
  return {
    part,
    micros: micros * factor,
    functions: functions.map((one) => ({ name: one.name, micros: one.micros * factor })),
  }
}

function shortened(parts: readonly PartTime[]): PartTime[] {
  if (parts.length <= PARTS_MAX) return [...parts]
  const rest = parts.slice(PARTS_MAX)
  const micros = rest.reduce((sum, one) => sum + one.micros, 0)
  const functions = rest.map(({ part, micros }) => ({ name: part, micros }))
  return [...parts.slice(0, PARTS_MAX), { part: REST, micros, functions }]
}
