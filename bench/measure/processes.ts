/** CPU time and memory of processes, as the kernel counts them. */
import { readdirSync, readFileSync } from 'node:fs'

export class NoSuchProcess extends Error {
  constructor(pid: number, cause: unknown) {
    super(`process ${pid} is gone`, { cause })
    this.name = 'NoSuchProcess'
  }
}

const TICK_MICROS = 10_000

export interface ThreadCpu {
  /** The main thread, which runs JavaScript in Node, has the id of the process. */
  id: number
  micros: number
}

/** The CPU that each existing thread used so far. Throws NoSuchProcess. */
export function threadsOf(pid: number): ThreadCpu[] {
  try {
    return readdirSync(`/proc/${pid}/task`).map((thread) => ({
      id: Number(thread),
      micros: threadNanos(pid, thread) / 1000,
    }))
  } catch (error) {
    throw new NoSuchProcess(pid, error)
  }
}

/** Ids of the threads with this name. The kernel keeps 15 characters of a name. */
export function threadsNamed(pid: number, name: string): number[] {
  return threadsOf(pid)
    .map(({ id }) => id)
    .filter((id) => readIfThere(`/proc/${pid}/task/${id}/comm`)?.trim() === name)
}

/**
 * Microseconds of CPU, user and system, that all threads of a process used. The sum of schedstat is exact, but lacks
 * threads that have ended. The ticks of `stat` include those. So the greater of the two counts.
 */
export function cpuMicros(pid: number, threads: readonly ThreadCpu[] = threadsOf(pid)): number {
  try {
    const fields = afterName(readFileSync(`/proc/${pid}/stat`, 'utf8'))
    const ticks = Number(fields[11]) + Number(fields[12])
    const precise = threads.reduce((sum, { micros }) => sum + micros, 0)
    return Math.max(precise, (ticks - 1) * TICK_MICROS)
  } catch (error) {
    throw new NoSuchProcess(pid, error)
  }
}

export function cpuMicrosOf(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => sum + cpuMicros(pid), 0)
}

export interface ProcessMemory {
  /** Resident bytes. A shared page counts in full. */
  rssBytes: number
  /** Resident bytes. A shared page is divided by its number of users, so sums over processes are right. */
  pssBytes: number
  /** Pages of this process alone: the memory that one more such process would take. */
  privateBytes: number
}

export function memoryOf(pid: number): ProcessMemory {
  try {
    const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8')
    const kib = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? Number.NaN)
    const privateBytes = (kib('Private_Clean') + kib('Private_Dirty')) * 1024
    return { rssBytes: kib('Rss') * 1024, pssBytes: kib('Pss') * 1024, privateBytes }
  } catch (error) {
    throw new NoSuchProcess(pid, error)
  }
}

export function memorySum(pids: readonly number[]): ProcessMemory {
  const sum = { rssBytes: 0, pssBytes: 0, privateBytes: 0 }
  for (const pid of pids) {
    const { rssBytes, pssBytes, privateBytes } = memoryOf(pid)
    sum.rssBytes += rssBytes
    sum.pssBytes += pssBytes
    sum.privateBytes += privateBytes
  }
  return sum
}

/** Ids of the child processes of `pid`, lowest first. */
export function childrenOf(pid: number): number[] {
  const children: number[] = []
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue
    const stat = readIfThere(`/proc/${entry}/stat`)
    if (stat !== null && Number(afterName(stat)[1]) === pid) children.push(Number(entry))
  }
  return children.sort((a, b) => a - b)
}

export function isAlive(pid: number): boolean {
  const stat = readIfThere(`/proc/${pid}/stat`)
  return stat !== null && afterName(stat)[0] !== 'Z'
}

/** The fields of /proc/<pid>/stat behind the name, which may contain spaces and brackets. */
function afterName(stat: string): string[] {
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')
}

function threadNanos(pid: number, thread: string): number {
  const text = readIfThere(`/proc/${pid}/task/${thread}/schedstat`)
  return text === null ? 0 : Number(text.split(' ')[0])
}

function readIfThere(path: string): string | null {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    // A process or thread may end at any time. Another error is a bug.
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ESRCH') return null
    throw error
  }
}
