/**
 * What a server's memory is made of, with its garbage collected.
 *
 * Resident memory alone does not tell what 10,000 connections cost: V8 takes and gives back whole megabytes of empty pages
 * (16 MB of a young generation above all) at moments of its own, which is about a kilobyte a connection (16 MB by 10,000) to either side.
 * `neededBytes` counts what is resident without what V8 holds empty.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { askBySignal, type Preload } from './preload.js'
import { memoryOf } from './processes.js'

/** Variable with the folder for the answers. */
export const MEMORY_FOLDER = 'BOREALIS_CHILD_MEMORY'
/** Full collections before each look. */
export const COLLECTIONS = 2

/** Of V8, after a collection. */
export interface HeapLook {
  /** Objects. */
  usedBytes: number
  /** Pages, full or not. */
  residentBytes: number
}

export interface MemoryLook {
  rssBytes: number
  /** Of JavaScript, living objects alone. */
  heapBytes: number
  /** Resident, without V8's empty pages. */
  neededBytes: number
}

/** What was under way (answers of the store, the last frames) ends; then pages go back to the system. */
const SETTLE_MS = 800

export class MemoryLooks implements Preload {
  constructor(private readonly folder: string) {
    mkdirSync(folder, { recursive: true })
  }

  get nodeOptions(): readonly string[] {
    return [`--import=${new URL('./memory-preload.js', import.meta.url).href}`]
  }

  get environment(): Readonly<Record<string, string>> {
    return { [MEMORY_FOLDER]: this.folder }
  }

  /** Of all these processes together. */
  async look(pids: readonly number[]): Promise<MemoryLook> {
    await sleep(SETTLE_MS)
    // The first collection makes pages empty, and they go back some time after: what counts is the second.
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

  async #collected(pid: number): Promise<HeapLook> {
    return JSON.parse(await askBySignal(pid, join(this.folder, `${pid}.json`))) as HeapLook
  }
}
