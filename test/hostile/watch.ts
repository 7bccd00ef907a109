/** Watches the processes under attack: counts the processes that end, and samples their memory. */
import { isAlive, memoryOf, NoSuchProcess } from '../../bench/measure/processes.js'
import type { LocalSystem, Victim } from '../../bench/system/local-system.js'

const WATCHED: readonly Victim[] = ['worker', 'transport', 'core', 'nats']
const MEASURED = ['worker', 'core'] as const
type Measured = (typeof MEASURED)[number]

const PERIOD_MS = 250
/** In this share of the run caches, heaps and pools grow to their size. The thirds begin after it. */
const WARM_UP_SHARE = 0.25
/**
 * The last third may exceed the middle one by this share plus these bytes, because garbage is collected irregularly. A
 * leak of 100 bytes a frame would be 20 MB in 200,000 frames, and 1 GB in 10,000,000.
 */
export const GROWTH_SHARE = 0.08
export const GROWTH_BYTES = 8 * 1024 * 1024

export interface Thirds {
  start: number
  middle: number
  end: number
}

export interface MemoryVerdict {
  /** The sum of worker and core. */
  rssBytes: Thirds
  byPart: Record<Measured, Thirds>
  isFlat: boolean
}

export class Watch {
  private readonly samples: Record<Measured, number[]> = { worker: [], core: [] }
  private readonly alive = new Set<number>()
  private exited = 0
  private readonly timer: NodeJS.Timeout

  constructor(private readonly system: LocalSystem) {
    this.sample()
    this.timer = setInterval(() => this.sample(), PERIOD_MS).unref()
  }

  /** Number of processes that have ended; a part that is restarted and ends again counts twice. */
  get exits(): number {
    this.sample()
    return this.exited
  }

  stop(): void {
    clearInterval(this.timer)
  }

  memory(): MemoryVerdict {
    const byPart = { worker: thirds(this.samples.worker), core: thirds(this.samples.core) }
    const sum = (of: keyof Thirds) => byPart.worker[of] + byPart.core[of]
    const rssBytes = { start: sum('start'), middle: sum('middle'), end: sum('end') }
    const isFlat = MEASURED.every((part) => isBounded(byPart[part]))
    return { rssBytes, byPart, isFlat }
  }

  private sample(): void {
    for (const pid of this.alive) {
      if (isAlive(pid)) continue
      this.alive.delete(pid)
      this.exited++
    }
    for (const victim of WATCHED) {
      const pids = this.system.pids(victim).filter((pid) => pid > 0 && isAlive(pid))
      for (const pid of pids) this.alive.add(pid)
      if (victim === 'worker' || victim === 'core') this.measure(victim, pids)
    }
  }

  private measure(part: Measured, pids: readonly number[]): void {
    try {
      this.samples[part].push(pids.reduce((sum, pid) => sum + memoryOf(pid).rssBytes, 0))
    } catch (error) {
      // The process ended just now. The next sample counts its exit.
      if (!(error instanceof NoSuchProcess)) throw error
    }
  }
}

export const isBounded = ({ middle, end }: Thirds): boolean => end <= middle * (1 + GROWTH_SHARE) + GROWTH_BYTES

export function thirds(samples: readonly number[]): Thirds {
  const warm = samples.slice(Math.floor(samples.length * WARM_UP_SHARE))
  const part = (n: number) =>
    median(warm.slice(Math.floor((n * warm.length) / 3), Math.ceil(((n + 1) * warm.length) / 3)))
  return { start: part(0), middle: part(1), end: part(2) }
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? 0
}
