/** File descriptors of this process. Both answers are null where the system does not tell. */
import { readdirSync, readFileSync, statSync } from 'node:fs'

/** RLIMIT_NOFILE, the soft limit. */
export function descriptorsMax(): number | null {
  try {
    const limits = readFileSync('/proc/self/limits', 'utf8')
    const soft = /^Max open files\s+(\d+|unlimited)/m.exec(limits)?.[1]
    return soft === undefined || soft === 'unlimited' ? null : Number(soft)
  } catch {
    // No /proc: not Linux.
    return null
  }
}

/**
 * How many are open now. From Linux 6.2 on the size of the folder says so; listing it takes tens of milliseconds with ten
 * thousand connections, in which no device is served.
 */
export function descriptorsOpen(): number | null {
  try {
    const { size } = statSync('/proc/self/fd')
    return size > 0 ? size : readdirSync('/proc/self/fd').length
  } catch {
    // No /proc, or no descriptor left to look with: the next look counts.
    return null
  }
}

/** Share of the descriptors that connections may take; the rest is for NATS, files and what is about to be refused. */
const CONNECTIONS_SHARE = 0.9
const CONNECTIONS_DEFAULT = 10_000

/** Most connections of a worker. */
export function connectionsCap(configured: number): number {
  if (configured > 0) return configured
  const max = descriptorsMax()
  return max === null ? CONNECTIONS_DEFAULT : Math.floor(max * CONNECTIONS_SHARE)
}
