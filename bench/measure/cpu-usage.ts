/** The CPU that servers use during a measurement, and the share of some of their threads. */
import { nowMicros } from '../micros.js'
import { cpuMicros, cpuMicrosOf, threadsNamed, threadsOf } from './processes.js'

/** The processes of one side. */
export interface Processes {
  /** Processes that hold the connections of devices. */
  readonly serverPids: readonly number[]
  /** Other processes of the server: the store or the bus behind it. */
  readonly behindPids: readonly number[]
}

/** In a reading: since the processes started. In a usage: between two readings. */
interface Cpu {
  serverMicros: number
  /** The part of `serverMicros` that the JavaScript threads used. */
  mainMicros: number
  /** The part of `serverMicros` that V8's sampling profiler used; 0 without a profiler. */
  samplerMicros: number
  behindMicros: number
}

export interface CpuReading extends Cpu {
  /** Time of the reading on the shared clock of micros.ts. */
  atMicros: number
}

export interface CpuUsage extends Cpu {
  fromMicros: number
  toMicros: number
}

/** V8's name for the thread of its sampling profiler. */
export const SAMPLER = 'v8:ProfEvntProc'

export function readCpu({ serverPids, behindPids }: Processes): CpuReading {
  const reading = { atMicros: nowMicros(), serverMicros: 0, mainMicros: 0, samplerMicros: 0 }
  for (const pid of serverPids) {
    const threads = threadsOf(pid)
    reading.serverMicros += cpuMicros(pid, threads)
    const samplers = new Set(threadsNamed(pid, SAMPLER))
    for (const { id, micros } of threads) {
      if (id === pid) reading.mainMicros += micros
      else if (samplers.has(id)) reading.samplerMicros += micros
    }
  }
  return { ...reading, behindMicros: cpuMicrosOf(behindPids) }
}

export function cpuSince(before: CpuReading, processes: Processes): CpuUsage {
  const after = readCpu(processes)
  return {
    fromMicros: before.atMicros,
    toMicros: after.atMicros,
    serverMicros: after.serverMicros - before.serverMicros,
    mainMicros: after.mainMicros - before.mainMicros,
    samplerMicros: after.samplerMicros - before.samplerMicros,
    behindMicros: after.behindMicros - before.behindMicros,
  }
}
