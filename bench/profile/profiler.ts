/** V8's sampling profiler in servers, started and stopped while they run. The product has no part in it. */
import { spawnSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { SAMPLER } from '../measure/cpu-usage.js'
import { askBySignal, type Preload } from '../measure/preload.js'
import { threadsNamed } from '../measure/processes.js'
import type { CpuProfile } from './parts.js'

/** Variable with the folder for the profiles. */
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

  /** Resolves when all of these processes, which must have been started with the preload, are profiled. False: a sampler may be late. */
  async start(pids: readonly number[]): Promise<boolean> {
    await Promise.all(pids.map((pid) => askBySignal(pid, profileFiles(this.folder, pid).started)))
    const samplers = pids.flatMap((pid) => threadsNamed(pid, SAMPLER))
    return samplers.length > 0 && samplers.every(runFirst)
  }

  /** One profile of each, since start(). */
  async stop(pids: readonly number[]): Promise<CpuProfile[]> {
    const texts = await Promise.all(pids.map((pid) => askBySignal(pid, profileFiles(this.folder, pid).profile)))
    return texts.map((text) => JSON.parse(text) as CpuProfile)
  }
}

/** As files that any viewer opens: `<name>.cpuprofile`, those after the first with a number. */
export async function keepProfiles(folder: string, name: string, profiles: readonly CpuProfile[]): Promise<void> {
  await mkdir(folder, { recursive: true })
  for (const [index, profile] of profiles.entries()) {
    const file = `${index === 0 ? name : `${name}-${index + 1}`}.cpuprofile`
    await writeFile(join(folder, file), JSON.stringify(profile))
  }
}

/**
 * V8's thread that asks for samples has to run when it is time. Where the cores are busy it would get one when the thread that it
 * asks gives one up, and find that thread waiting: up to half of what is done in short bursts would be missing. False: no
 * root, or no chrt (util-linux).
 */
function runFirst(thread: number): boolean {
  return spawnSync('chrt', ['--fifo', '--pid', '1', String(thread)], { stdio: 'ignore' }).status === 0
}
