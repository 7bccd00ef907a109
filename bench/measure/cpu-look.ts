/** CPU that servers used over a stretch of time, and which of their threads used it. */
import { nowMicros } from '../micros.js'
import { cpuMicros, cpuMicrosOf, threadsNamed, threadsOf } from './processes.js'

/** Processes of one side. */
export interface Processes {
  /** Those that hold the devices' connections. */
  readonly serverPids: readonly number[]
  /** What else belongs to the server: the store or the bus behind it. */
  readonly behindPids: readonly number[]
}

/** In a look: since the processes began. In what was spent: between two looks. */
interface Cpu {
  serverMicros: number
  /** Of `serverMicros`, the threads that run JavaScript. */
  mainMicros: number
  /** Of `serverMicros`, V8's sampling profiler; 0 where there is none. */
  samplerMicros: number
  behindMicros: number
}

export interface CpuLook extends Cpu {
  /** On the shared clock of micros.ts. */
  atMicros: number
}

export interface CpuSpent extends Cpu {
  fromMicros: number
  toMicros: number
}

/** V8's name for the thread of its sampling profiler. */
export const SAMPLER = 'v8:ProfEvntProc'

export function cpuLook({ serverPids, behindPids }: Processes): CpuLook {
  const look = { atMicros: nowMicros(), serverMicros: 0, mainMicros: 0, samplerMicros: 0 }
  for (const pid of serverPids) {
    const threads = threadsOf(pid)
    look.serverMicros += cpuMicros(pid, threads)
    const samplers = new Set(threadsNamed(pid, SAMPLER))
    for (const { id, micros } of threads) {
      if (id === pid) look.mainMicros += micros
      else if (samplers.has(id)) look.samplerMicros += micros
    }
  }
  return { ...look, behindMicros: cpuMicrosOf(behindPids) }
}

export function cpuSince(before: CpuLook, processes: Processes): CpuSpent {
  const after = cpuLook(processes)
  return {
    fromMicros: before.atMicros,
    toMicros: after.atMicros,
    serverMicros: after.serverMicros - before.serverMicros,
    mainMicros: after.mainMicros - before.mainMicros,
    samplerMicros: after.samplerMicros - before.samplerMicros,
    behindMicros: after.behindMicros - before.behindMicros,
  }
}
