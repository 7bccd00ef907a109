/** Modules that a server loads before its own (node --import), and that answer a signal with a file. */
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { BenchError } from '../scenario.js'

export interface Preload {
  /** For the process, on top of other flags. */
  readonly nodeOptions: readonly string[]
  readonly environment: Readonly<Record<string, string>>
}

/** For processes that are reached by their environment alone: those of the product. */
export function preloadEnvironment({ nodeOptions, environment }: Preload): Record<string, string> {
  return { ...environment, NODE_OPTIONS: nodeOptions.join(' ') }
}

/** What preloads listen to. */
export const PRELOAD_SIGNAL = 'SIGUSR2'

const ANSWER_MS_MAX = 20_000
const POLL_MS = 20

/** Signals the process and gives what it then writes to the file. Rejects with BenchError where nothing comes. */
export async function askBySignal(pid: number, file: string): Promise<string> {
  rmSync(file, { force: true })
  process.kill(pid, PRELOAD_SIGNAL)
  const deadline = performance.now() + ANSWER_MS_MAX
  for (;;) {
    await sleep(POLL_MS)
    const answer = readIfThere(file)
    if (answer !== null) return answer
    if (performance.now() > deadline) throw new BenchError(`process ${pid} does not answer ${PRELOAD_SIGNAL}`)
  }
}

/** In the process that was signalled. Under its name at once, so that nobody reads half of it. */
export function answerInFile(file: string, text: string): void {
  writeFileSync(`${file}.new`, text)
  renameSync(`${file}.new`, file)
}

function readIfThere(file: string): string | null {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}
