/**
 * Reads the memory of servers after a garbage collection.
 *
 * Resident memory alone does not show the memory of 10,000 connections: V8 takes and returns megabytes of empty pages (up
 * to 16 MB for the young generation) at times of its own, which is some kilobyte for each connection, in either direction.
 * `neededBytes` is the resident memory without V8's empty pages.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { askBySignal, type Preload } from './preload.js'
import { memoryOf } from './processes.js'

/** Environment variable with the folder for the answers. */
export const MEMORY_FOLDER = 'BOREALIS_CHILD_MEMORY'
/** Number of full collections before each reading. */
export const COLLECTIONS = 2

/** V8's memory after a collection. */
export interface HeapReading {
  /** Bytes of live objects. */
  usedBytes: number
  /** Bytes of V8's pages, also of empty ones. */
  residentBytes: number
}

export interface MemoryReading {
  rssBytes: number
  /** Live JavaScript objects. */
  heapBytes: number
  /** Resident memory without V8's empty pages. */
  neededBytes: number
}

/** Time for pending work (answers of the store, the last frames) to end, and for pages to go back to the system. */
const SETTLE_MS = 800

export class MemoryProbe implements Preload {
  constructor(private readonly folder: string) {
    mkdirSync(folder, { recursive: true })
  }

  get nodeOptions(): readonly string[] {
    return [`--import=${new URL('./memory-preload.js', import.meta.url).href}`]
  }

  get environment(): Readonly<Record<string, string>> {
    return { [MEMORY_FOLDER]: this.folder }
  }

  /** The memory of all these processes together. */
  async read(pids: readonly number[]): Promise<MemoryReading> {
    await sleep(SETTLE_MS)
    // V8 returns the pages that the first collection empties only later, so the second reading counts.
    await Promise.all(pids.map((pid) => this.#collected(pid)))
    await sleep(SETTLE_MS)
    const heaps = await Promise.all(pids.map((pid) => this.#collected(pid)))
    const sum = { rssBytes: 0, heapBytes: 0, neededBytes: 0 }
    for (const [i, { usedBytes, residentBytes }] of heaps.entries()) {
      const { rssBytes } = memoryOf(pids[i] as number)
      sum.rssBytes += rssBytes
      sum.heapBytes += usedBytes
      sum.neededBytes += rssBytes - residentBytes + usedBytes
    }
    return sum
  }

  async #collected(pid: number): Promise<HeapReading> {
    return JSON.parse(await askBySignal(pid, join(this.folder, `${pid}.json`))) as HeapReading
  }
}
