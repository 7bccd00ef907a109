/** The file descriptors of this process, which limit its connections. */
import { readdirSync, readFileSync, statSync } from 'node:fs'

/** The soft limit RLIMIT_NOFILE; null if the system does not tell it. */
export function descriptorsMax(): number | null {
  try {
    const limits = readFileSync('/proc/self/limits', 'utf8')
    const soft = /^Max open files\s+(\d+|unlimited)/m.exec(limits)?.[1]
    return soft === undefined || soft === 'unlimited' ? null : Number(soft)
  } catch {
    // Systems other than Linux have no /proc.
    return null
  }
}

/**
 * The number of open descriptors; null if the system does not tell it. Since Linux 6.2 the size of the folder is that
 * number. Older systems have to list it, which with ten thousand connections blocks the worker for tens of
 * milliseconds.
 */
export function descriptorsOpen(): number | null {
  try {
    const { size } = statSync('/proc/self/fd')
    return size > 0 ? size : readdirSync('/proc/self/fd').length
  } catch {
    // There is no /proc, or no descriptor is left to read it: then the next count is used.
    return null
  }
}

/**
 * Share of the descriptors for connections. The rest is for NATS, files, and connections that are about to be
 * refused.
 */
const CONNECTIONS_SHARE = 0.9
const CONNECTIONS_DEFAULT = 10_000

/** Most connections of a worker: as configured or, if that is 0, from the limit of descriptors. */
export function connectionsCap(configured: number): number {
  if (configured > 0) return configured
  const max = descriptorsMax()
  return max === null ? CONNECTIONS_DEFAULT : Math.floor(max * CONNECTIONS_SHARE)
}
