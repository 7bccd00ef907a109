/** The protocol of modules that a server loads first (node --import): they answer a signal with a file. */
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { BenchError } from '../scenario.js'

export interface Preload {
  /** Flags for the process, in addition to its own. */
  readonly nodeOptions: readonly string[]
  readonly environment: Readonly<Record<string, string>>
}

/** The preload as environment variables alone, for the processes that the product starts. */
export function preloadEnvironment({ nodeOptions, environment }: Preload): Record<string, string> {
  return { ...environment, NODE_OPTIONS: nodeOptions.join(' ') }
}

/** The signal that preloaded modules answer. */
export const PRELOAD_SIGNAL = 'SIGUSR2'

const ANSWER_MS_MAX = 20_000
const POLL_MS = 20

/** Signals the process, and resolves with the text that it writes to the file. Rejects if it does not. */
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

/** Writes the answer, in the signalled process. The rename keeps the reader from seeing half of the text. */
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
