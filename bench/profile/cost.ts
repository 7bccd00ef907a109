/** The CPU cost of one operation (a delivery, a handshake) for a server, divided among parts of the code. */
import Type, { type Static } from 'typebox'
import { median, significant } from '../measure/stats.js'
import type { Measurement } from '../measurement.js'
import { type CpuProfile, type PartTime, partTimes } from './parts.js'

const Micros = Type.Object({ name: Type.String(), micros: Type.Number() })

const Part = Type.Object({
  part: Type.String(),
  /** CPU microseconds for each operation. */
  micros: Type.Number(),
  percent: Type.Number(),
  /** The functions with the highest cost. */
  functions: Type.Array(Micros),
})
export type Part = Static<typeof Part>

export const Cost = Type.Object({
  /** Operations of the profiled rounds. */
  operations: Type.Integer(),
  /** CPU of the servers for each operation, as the OS counts it: median of the rounds without the profiler. */
  cpuMicros: Type.Number(),
  /** The same over all profiled rounds, without the thread of the profiler. */
  profiledCpuMicros: Type.Number(),
  /** Samples of a thread that was not idle. On time are those for which the thread had a core (parts.ts). */
  samples: Type.Integer(),
  samplesOnTime: Type.Integer(),
  /** Their sum is cpuMicros. The highest cost comes first. */
  parts: Type.Array(Part),
})
export type Cost = Static<typeof Cost>

/** The work of the JavaScript thread that the profiler does not see. */
export const READING = 'reading sockets (native)'
/** Helper threads of V8 (garbage collection, compiling) and of libuv. */
export const OTHER_THREADS = 'other threads'

/** Further parts and functions become one row: dozens of them have one or two samples. */
const PARTS_MAX = 24
const FUNCTIONS_MAX = 4
const REST = 'all others'

export interface Profiled {
  /** Rounds without the profiler. */
  plain: readonly Measurement[]
  /** Rounds with the profiler. */
  profiled: readonly Measurement[]
  /** One profile of each server process. */
  profiles: readonly CpuProfile[]
}

/**
 * The profiler slows the other threads down. So the profile gives only the share of each part, and the cost of a part is
 * that share of `cpuMicros`.
 */
export function costOf({ plain, profiled, profiles }: Profiled): Cost {
  const windows = profiled.map(({ cpu }) => cpu)
  const { samples, samplesOnTime, parts } = partTimes(profiles, windows)
  const sum = (of: (round: Measurement) => number) => profiled.reduce((total, round) => total + of(round), 0)
  const profiledMicros = sum(({ cpu }) => cpu.serverMicros - cpu.samplerMicros)
  const mainMicros = sum(({ cpu }) => cpu.mainMicros)
  const cpuMicros = median(plain.map(({ cpu, operations }) => cpu.serverMicros / operations))
  const operations = sum((round) => round.operations)
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
 * Adds the two parts that no sample shows to the sampled parts. They follow from the CPU that the OS counted in all
 * (`cpuMicros`) and for the JavaScript thread (`mainMicros`). Samples are a statistic: if they add up to more than that
 * thread used, they are scaled down to it.
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
