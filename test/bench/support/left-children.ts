import { setTimeout as sleep } from 'node:timers/promises'
import { childrenOf } from '../../../bench/measure/processes.js'

/** The watcher of a server (end-with-parent.ts) ends just after the server, without anybody waiting for it. */
const WATCHERS_MS_MAX = 5_000

/** The process ids of the children of this process that do not end. */
export async function leftChildren(): Promise<number[]> {
  const deadline = performance.now() + WATCHERS_MS_MAX
  while (childrenOf(process.pid).length > 0 && performance.now() < deadline) await sleep(20)
  return childrenOf(process.pid)
}
