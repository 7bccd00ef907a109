/** CPU that servers used over a stretch of time, and which of their threads used it. */
import { nowMicros } from '../micros.js'
import { cpuMicros, cpuMicrosOf, threadsOf } from './processes.js'

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

export function cpuLook({ serverPids, behindPids }: Processes): CpuLook {
  const look = { atMicros: nowMicros(), serverMicros: 0, mainMicros: 0 }
  for (const pid of serverPids) {
    const threads = threadsOf(pid)
    look.serverMicros += cpuMicros(pid, threads)
    look.mainMicros += threads.find(({ id }) => id === pid)?.micros ?? 0
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
    behindMicros: after.behindMicros - before.behindMicros,
  }
}
