/** Many seeds, on all cores: one child process for each, which gets the next seeds as soon as it is done with some. */
import { type ChildProcess, fork } from 'node:child_process'
import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import { runSeed, type SeedViolation } from './run.js'

/** So few are run here: a process costs more. */
const ALONE_MAX = 20
const BATCH = 10

export interface SeedRange {
  first: number
  count: number
  /** Ends with the first violation. */
  stopEarly?: boolean
}

export interface PoolOptions {
  /** Violations in the order in which they were found. */
  onProgress?: (soFar: Readonly<PoolResult>) => void
  /** No further seeds are begun after the first violation. */
  stopEarly?: boolean
  /** No further seeds are begun once it is aborted; those that were are finished, so that none before them is missing. */
  signal?: AbortSignal
  /** Where run-child.js is: a mutated copy of the tree has its own. */
  child?: string
  /** Most processes. */
  processesMax?: number
}

export interface PoolResult {
  seeds: number
  /** In the order of seeds. */
  violations: SeedViolation[]
  /** Records that were left behind for ever (leaks.ts), of all seeds. */
  leaks: number
}

export interface BatchReport {
  done: number
  violations: SeedViolation[]
  leaks: number
}

export async function runSeeds({ first, count }: SeedRange, options: PoolOptions = {}): Promise<PoolResult> {
  const result: PoolResult = { seeds: 0, violations: [], leaks: 0 }
  const take = ({ done, violations, leaks }: BatchReport) => {
    result.seeds += done
    result.violations.push(...violations)
    result.leaks += leaks
    options.onProgress?.(result)
  }
  let next = first
  const end = first + count
  const batch = (): SeedRange | null => {
    const isCut = options.signal?.aborted === true || (options.stopEarly === true && result.violations.length > 0)
    const isOver = next >= end || isCut
    if (isOver) return null
    const range = { first: next, count: Math.min(BATCH, end - next), stopEarly: options.stopEarly === true }
    next += range.count
    return range
  }
  const isAlone = count <= ALONE_MAX && options.child === undefined
  if (isAlone) for (let range = batch(); range; range = batch()) take(await runBatch(range))
  else {
    const processes = Math.min(options.processesMax ?? availableParallelism(), Math.ceil(count / BATCH))
    const child = options.child ?? fileURLToPath(new URL('run-child.js', import.meta.url))
    await Promise.all(Array.from({ length: processes }, () => serve(child, batch, take)))
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

/** Feeds one child until nothing is left. Rejects where it ends before. */
function serve(path: string, batch: () => SeedRange | null, take: (report: BatchReport) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = fork(path, { stdio: ['ignore', 'ignore', 'inherit', 'ipc'], execArgv: ['--no-warnings'] })
    const feed = () => {
      const range = batch()
      if (range) child.send(range)
      else child.disconnect()
    }
    child.on('message', (report: BatchReport) => {
      take(report)
      feed()
    })
    child.on('error', reject)
    child.on('exit', (code, signal) => {
      if (code === 0) resolve()
      else reject(new Error(`a process of the simulation ended: ${signal ?? code}`))
    })
    feed()
    endWith(child)
  })
}

/** A child must not outlive this process. */
function endWith(child: ChildProcess): void {
  const kill = () => void child.kill('SIGKILL')
  process.once('exit', kill)
  child.once('exit', () => process.off('exit', kill))
}
