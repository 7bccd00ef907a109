/** Starts and stops V8's sampling profiler in running servers. The product has no code for it: a preload does it. */
import { spawnSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { SAMPLER } from '../measure/cpu-usage.js'
import { askBySignal, type Preload } from '../measure/preload.js'
import { threadsNamed } from '../measure/processes.js'
import type { CpuProfile } from './parts.js'

/** Environment variable with the folder for the profiles. */
export const PROFILE_FOLDER = 'BOREALIS_CHILD_PROFILE'

export const profileFiles = (folder: string, pid: number) => ({
  started: join(folder, `${pid}.started`),
  profile: join(folder, `${pid}.cpuprofile`),
})

export class Profiler implements Preload {
  constructor(private readonly folder: string) {
    mkdirSync(folder, { recursive: true })
  }

  get nodeOptions(): readonly string[] {
    return [`--import=${new URL('./preload.js', import.meta.url).href}`]
  }

  get environment(): Readonly<Record<string, string>> {
    return { [PROFILE_FOLDER]: this.folder }
  }

  /**
   * Starts the profiler in processes that run with the preload. Resolves with whether the threads that request samples
   * have priority.
   */
  async start(pids: readonly number[]): Promise<boolean> {
    await Promise.all(pids.map((pid) => askBySignal(pid, profileFiles(this.folder, pid).started)))
    const samplers = pids.flatMap((pid) => threadsNamed(pid, SAMPLER))
    return samplers.length > 0 && samplers.every(runFirst)
  }

  /** Stops the profiler. Resolves with one profile of each process. */
  async stop(pids: readonly number[]): Promise<CpuProfile[]> {
    const texts = await Promise.all(pids.map((pid) => askBySignal(pid, profileFiles(this.folder, pid).profile)))
    return texts.map((text) => JSON.parse(text) as CpuProfile)
  }
}

/** Writes the profiles as `<name>.cpuprofile`, `<name>-2.cpuprofile` and so on. */
export async function keepProfiles(folder: string, name: string, profiles: readonly CpuProfile[]): Promise<void> {
  await mkdir(folder, { recursive: true })
  for (const [index, profile] of profiles.entries()) {
    const file = `${index === 0 ? name : `${name}-${index + 1}`}.cpuprofile`
    await writeFile(join(folder, file), JSON.stringify(profile))
  }
}

/**
 * Gives priority to V8's thread that requests samples. On busy cores it would otherwise run only when the profiled thread
 * gives up its core, and would find that thread waiting: up to half of the work in short bursts would be missing. False:
 * there is no root, or no chrt (util-linux).
 */
function runFirst(thread: number): boolean {
  return spawnSync('chrt', ['--fifo', '--pid', '1', String(thread)], { stdio: 'ignore' }).status === 0
}
