/**
 * How many processors this process may use: those of the machine that it may run on, or the CPU quota of its container if
 * that is less.
 */
import { readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'

/** May be a fraction, such as 1.5 for a container with that quota. Always more than 0. */
export function processorsAvailable(): number {
  return Math.min(availableParallelism(), cpuQuota(readText) ?? Number.POSITIVE_INFINITY)
}

/** The number of processes that can work at the same time: at least 1. */
export function processesAtOnce(): number {
  return Math.max(1, Math.ceil(processorsAvailable()))
}

const CGROUPS = '/sys/fs/cgroup'

/**
 * The CPU quota of the control group of this process, in processors; null if there is none. A group has at most the quota
 * of each group that it is in, so the smallest one counts. Pure.
 * @param read the text of a file; null if there is no such file.
 */
export function cpuQuota(read: (path: string) => string | null): number | null {
  const quotas: number[] = []
  for (const line of (read('/proc/self/cgroup') ?? '').split('\n')) {
    const [, controllers, path] = /^\d+:([^:]*):(\/.*)$/.exec(line) ?? []
    if (controllers === undefined || path === undefined) continue
    for (const group of andItsParents(path)) {
      // Version 2 has one hierarchy for all controllers, version 1 one for each.
      const quota =
        controllers === ''
          ? parseCpuMax(read(`${CGROUPS}${group}/cpu.max`) ?? '')
          : controllers.split(',').includes('cpu')
            ? parseCfsQuota(
                read(`${CGROUPS}/cpu${group}/cpu.cfs_quota_us`),
                read(`${CGROUPS}/cpu${group}/cpu.cfs_period_us`),
              )
            : null
      if (quota !== null) quotas.push(quota)
    }
  }
  return quotas.length > 0 ? Math.min(...quotas) : null
}

/** The file `cpu.max` of version 2: `<quota> <period>` in microseconds, or `max <period>`. Null if it sets no quota. */
export function parseCpuMax(text: string): number | null {
  const [, quota, period] = /^(\d+) (\d+)\s*$/.exec(text) ?? []
  return quota === undefined ? null : ratio(Number(quota), Number(period))
}

/** The two files of version 1. The quota is -1 where there is none. */
export function parseCfsQuota(quota: string | null, period: string | null): number | null {
  return quota === null || period === null ? null : ratio(Number(quota), Number(period))
}

const ratio = (quota: number, period: number) => (quota > 0 && period > 0 ? quota / period : null)

/** `/a/b` gives `/a/b`, `/a` and the root, which is the empty text. A container often sees its own group as the root. */
function andItsParents(path: string): string[] {
  const names = path.split('/').filter((name) => name !== '' && name !== '..')
  return Array.from({ length: names.length + 1 }, (_, up) =>
    names
      .slice(0, names.length - up)
      .map((name) => `/${name}`)
      .join(''),
  )
}

function readText(path: string): string | null {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    // Not Linux, or a container that does not show its control groups.
    return null
  }
}
