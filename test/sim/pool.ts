/** Runs many seeds on all CPU cores: one child process for each, which gets the next batch when it has finished one. */

import { type ChildProcess, fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { processesAtOnce } from '../../src/processors.js'
import { runSeed, type SeedViolation } from './run.js'

/** Up to this many seeds run in this process, because starting child processes would take longer. */
const ALONE_MAX = 20
const BATCH_SEEDS = 10

export interface SeedRange {
  first: number
  count: number
  /** Stops after the first violation. */
  stopEarly?: boolean
}

export interface PoolOptions {
  /** Called after each batch; its violations are in the order in which they were found. */
  onProgress?: (soFar: Readonly<PoolResult>) => void
  /** Starts no further batch after the first violation. */
  stopEarly?: boolean
  /** After an abort no further batch starts. Batches under way are finished, so that the seeds run have no hole. */
  signal?: AbortSignal
  /** The path of run-child.js; a mutated copy of the tree has its own. */
  child?: string
  processesMax?: number
}

export interface PoolResult {
  /** Number of seeds that were run. */
  seeds: number
  /** Sorted by seed. */
  violations: SeedViolation[]
  /** Number of records that stay in the store for ever (leaks.ts), over all seeds. */
  leaks: number
}

export interface BatchReport {
  done: number
  violations: SeedViolation[]
  leaks: number
}

export async function runSeeds({ first, count }: SeedRange, options: PoolOptions = {}): Promise<PoolResult> {
  const result: PoolResult = { seeds: 0, violations: [], leaks: 0 }
  const addReport = ({ done, violations, leaks }: BatchReport) => {
    result.seeds += done
    result.violations.push(...violations)
    result.leaks += leaks
    options.onProgress?.(result)
  }
  let next = first
  const end = first + count
  const nextBatch = (): SeedRange | null => {
    const isStopped = options.signal?.aborted === true || (options.stopEarly === true && result.violations.length > 0)
    if (next >= end || isStopped) return null
    const range = { first: next, count: Math.min(BATCH_SEEDS, end - next), stopEarly: options.stopEarly === true }
    next += range.count
    return range
  }
  const isAlone = count <= ALONE_MAX && options.child === undefined
  if (isAlone) for (let range = nextBatch(); range; range = nextBatch()) addReport(await runBatch(range))
  else {
    const processes = Math.min(options.processesMax ?? processesAtOnce(), Math.ceil(count / BATCH_SEEDS))
    const child = options.child ?? fileURLToPath(new URL('run-child.js', import.meta.url))
    await Promise.all(Array.from({ length: processes }, () => runChild(child, nextBatch, addReport)))
  }
  result.violations.sort((a, b) => a.seed - b.seed)
  return result
}

export async function runBatch({ first, count, stopEarly = false }: SeedRange): Promise<BatchReport> {
  const violations: SeedViolation[] = []
  let done = 0
  let leaks = 0
  while (done < count && !(stopEarly && violations.length > 0)) {
    const seed = first + done++
    const { violation, leaks: left } = await runSeed(seed)
    leaks += left
    if (violation) violations.push({ seed, ...violation })
  }
  return { done, violations, leaks }
}

/** Sends batches to one child process until none is left. Rejects if the child ends with an error. */
function runChild(
  path: string,
  nextBatch: () => SeedRange | null,
  addReport: (report: BatchReport) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = fork(path, { stdio: ['ignore', 'ignore', 'inherit', 'ipc'], execArgv: ['--no-warnings'] })
    const sendBatch = () => {
      const range = nextBatch()
      if (range) child.send(range)
      else child.disconnect()
    }
    child.on('message', (report: BatchReport) => {
      addReport(report)
      sendBatch()
    })
    child.on('error', reject)
    child.on('exit', (code, signal) => {
      if (code === 0) resolve()
      else reject(new Error(`a process of the simulation ended: ${signal ?? code}`))
    })
    sendBatch()
    killAtExit(child)
  })
}

/** The child must not outlive this process. */
function killAtExit(child: ChildProcess): void {
  const kill = () => void child.kill('SIGKILL')
  process.once('exit', kill)
  child.once('exit', () => process.off('exit', kill))
}
