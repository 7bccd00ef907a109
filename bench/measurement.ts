/** A load on a server for some time: the number of operations, and the CPU that they took. */
import { type CpuUsage, cpuSince, type Processes, readCpu } from './measure/cpu-usage.js'

export interface Measurement {
  /** Number of completed deliveries or handshakes. */
  operations: number
  perSecond: number
  cpu: CpuUsage
}

/** Runs `work`, and measures the CPU that the processes use meanwhile. */
export async function measureCpu<T>(processes: Processes, work: () => Promise<T>): Promise<{ done: T; cpu: CpuUsage }> {
  const before = readCpu(processes)
  const done = await work()
  return { done, cpu: cpuSince(before, processes) }
}
