/** Runs one program to its end as a part of a bench run: git, the build of a commit, one bench. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { endWithParent } from '../../src/nats/server/end-with-parent.js'
import type { Bench } from '../scenario.js'

export interface ProgramOptions {
  folder: string
  /** Gets each line of standard error, and of standard output unless `keepOutput` is set. */
  onLine?(line: string): void
  /** Default false: standard output is shown like standard error. True: it is returned. */
  keepOutput?: boolean
  /** True: a stop ends the processes that the program started along with it. Default false: the program ends them. */
  stopsGroup?: boolean
}

export interface Ended {
  /** The exit code; null if a signal ended the program or it could not be started. */
  code: number | null
  output: string
  /** The last lines that it wrote, for an error message. */
  tail: string
}

const TAIL_LINES = 15
/** A bench that is stopped ends its own servers first, which may take the time of a graceful stop each. */
const STOP_MS_MAX = 45_000

export async function runProgram(
  bench: Pick<Bench, 'defer'>,
  [program, ...args]: readonly [string, ...string[]],
  { folder, onLine = () => undefined, keepOutput = false, stopsGroup = false }: ProgramOptions,
): Promise<Ended> {
  const child = spawn(program, args, {
    cwd: folder,
    env: environment(),
    // A process group of its own: a Ctrl-C at the terminal reaches this process alone, which passes it on once.
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  endWithParent(child)
  bench.defer(() => stop(child, stopsGroup))
  const tail: string[] = []
  const take = (line: string) => {
    tail.push(line)
    if (tail.length > TAIL_LINES) tail.shift()
    onLine(line)
  }
  let output = ''
  createInterface({ input: child.stderr }).on('line', take)
  if (keepOutput) {
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text
    })
  } else createInterface({ input: child.stdout }).on('line', take)
  const code = await new Promise<number | null>((resolve) => {
    child.once('close', (code) => resolve(code))
    child.once('error', (error) => {
      take(error.message)
      resolve(null)
    })
  })
  return { code, output, tail: tail.join('\n') }
}

async function stop(child: ChildProcess, stopsGroup: boolean): Promise<void> {
  const { pid } = child
  if (pid === undefined || child.exitCode !== null || child.signalCode !== null) return
  const exit = once(child, 'exit')
  process.kill(stopsGroup ? -pid : pid, 'SIGTERM')
  const force = setTimeout(() => process.kill(-pid, 'SIGKILL'), STOP_MS_MAX)
  await exit
  clearTimeout(force)
}

/** npm describes its package in variables. An npm that runs in another tree must not see the variables of this one. */
function environment(): NodeJS.ProcessEnv {
  return Object.fromEntries(
    Object.entries(process.env).filter(
      ([name]) => !/^npm_(package|lifecycle|command|config_local_prefix)|^INIT_CWD$/.test(name),
    ),
  )
}
