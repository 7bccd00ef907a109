/** A stretch of load on a server: what was done, and what it took. */
import { type CpuSpent, cpuLook, cpuSince, type Processes } from './measure/cpu-look.js'

export interface Stretch {
  /** Deliveries or handshakes, of those that came to their end. */
  operations: number
  perSecond: number
  cpu: CpuSpent
}

/** Has the work done, and says what the processes spent meanwhile. */
export async function spending<T>(processes: Processes, work: () => Promise<T>): Promise<{ done: T; cpu: CpuSpent }> {
  const before = cpuLook(processes)
  const done = await work()
  return { done, cpu: cpuSince(before, processes) }
}
