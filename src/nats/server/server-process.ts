/** Runs a nats-server as a child process, for `npm start` and for tests. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants, existsSync, mkdirSync, renameSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { delimiter, join } from 'node:path'
import { BrokerError } from '../broker.js'
import { CORE_ACCOUNT } from './accounts.js'
import { endWithParent } from './end-with-parent.js'
import type { NatsUser } from './permissions.js'
import { serverConfig } from './server-config.js'

export interface NatsServerOptions {
  /** Holds the data of JetStream and the configuration file (mode 0600, because it contains passwords). */
  dataDir: string
  users: NatsUser[]
  split: number
  /** Absent or 0: a free port. */
  port?: number
  fileBytesMax?: number
  /** Receives each line that the server writes. */
  onLine?: (line: string) => void
}

export interface NatsServer {
  readonly url: string
  readonly port: number
  readonly pid: number
  /** Resolves when the present child process ends, for whatever reason. */
  readonly exited: Promise<void>
  /** Starts the server again on the same port and data, after kill9(), stop() or a crash. */
  start(): Promise<void>
  /** Kills the server as a power switch would. Records that JetStream acknowledged are in the kernel and stay. */
  kill9(): Promise<void>
  /** Stops in order: the server writes open records and informs its clients. */
  stop(): Promise<void>
}

const READY_MS_MAX = 15_000
const STOP_MS_MAX = 10_000
const LINES_KEPT = 20

export async function startNatsServer(options: NatsServerOptions): Promise<NatsServer> {
  const server = new ChildServer(options, options.port || (await freePort()))
  await server.start()
  return server
}

/** Looks at NATS_SERVER_BIN, then in PATH, then in the folders that Debian uses. */
export function findNatsServer(env: NodeJS.ProcessEnv = process.env): string {
  if (env.NATS_SERVER_BIN) return env.NATS_SERVER_BIN
  const folders = [...(env.PATH ?? '').split(delimiter).filter(Boolean), '/usr/sbin', '/usr/local/bin']
  for (const folder of folders) {
    const path = join(folder, 'nats-server')
    if (isExecutable(path)) return path
  }
  throw new BrokerError('unavailable', 'nats-server was not found: install it, or set NATS_SERVER_BIN to its path')
}

class ChildServer implements NatsServer {
  readonly url: string
  exited: Promise<void> = Promise.resolve()
  readonly #configFile: string
  #child: ChildProcess | null = null
  #lines: string[] = []
  /** Ends the child at once at an exit that runs handlers. endWithParent() covers every other exit. */
  readonly #atExit = () => void this.#child?.kill('SIGKILL')

  constructor(
    readonly options: NatsServerOptions,
    readonly port: number,
  ) {
    this.url = `nats://127.0.0.1:${port}`
    this.#configFile = join(options.dataDir, 'nats-server.conf')
  }

  get pid(): number {
    return this.#child?.pid ?? 0
  }

  async start(): Promise<void> {
    if (this.#child) return
    const { dataDir, users, split, fileBytesMax } = this.options
    mkdirSync(dataDir, { recursive: true, mode: 0o700 })
    moveToCoreAccount(join(dataDir, 'jetstream'))
    const config = serverConfig({
      dataDir,
      port: this.port,
      users,
      split,
      ...(fileBytesMax !== undefined && { fileBytesMax }),
    })
    writeFileSync(this.#configFile, config, { mode: 0o600 })
    // In a process group of its own, because Ctrl-C at a terminal must not stop it before the processes that use it.
    const child = spawn(findNatsServer(), ['-c', this.#configFile], {
      detached: true,
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    endWithParent(child)
    this.#child = child
    this.#lines = []
    process.on('exit', this.#atExit)
    this.exited = new Promise((resolve) => {
      const ended = () => {
        if (this.#child === child) this.#child = null
        process.off('exit', this.#atExit)
        resolve()
      }
      child.once('exit', ended)
      child.once('error', ended)
    })
    await this.#untilReady(child)
  }

  async kill9(): Promise<void> {
    this.#child?.kill('SIGKILL')
    await this.exited
  }

  async stop(): Promise<void> {
    const child = this.#child
    if (!child) return
    child.kill('SIGTERM')
    const force = setTimeout(() => child.kill('SIGKILL'), STOP_MS_MAX)
    await this.exited
    clearTimeout(force)
  }

  #untilReady(child: ChildProcess): Promise<void> {
    return new Promise((resolve, reject) => {
      const fail = (why: string) => {
        child.kill('SIGKILL')
        clearTimeout(timer)
        reject(new BrokerError('unavailable', `nats-server ${why}:\n${this.#lines.join('\n')}`))
      }
      const timer = setTimeout(() => fail(`was not ready in ${READY_MS_MAX} ms`), READY_MS_MAX)
      child.once('error', (error) => fail(`did not start (${error.message})`))
      child.once('exit', (code) => fail(`ended with code ${code}`))
      eachLine(child, (line) => {
        this.#lines.push(line)
        if (this.#lines.length > LINES_KEPT) this.#lines.shift()
        this.options.onLine?.(line)
        if (!line.endsWith('Server is ready')) return
        clearTimeout(timer)
        resolve()
      })
    })
  }
}

/** Data of a version of Borealis that had one account for all, which nats-server calls `$G`. */
function moveToCoreAccount(folder: string): void {
  const [before, now] = [join(folder, '$G'), join(folder, CORE_ACCOUNT)]
  if (existsSync(before) && !existsSync(now)) renameSync(before, now)
}

function eachLine(child: ChildProcess, onLine: (line: string) => void): void {
  let rest = ''
  child.stderr?.setEncoding('utf8').on('data', (chunk: string) => {
    const lines = (rest + chunk).split('\n')
    rest = (lines.pop() ?? '').slice(-4096)
    for (const line of lines) onLine(line)
  })
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false // absent, or not executable for this user: look in the next folder
  }
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const address = probe.address()
  probe.close()
  await once(probe, 'close')
  if (typeof address !== 'object' || !address) throw new BrokerError('unavailable', 'no free port')
  return address.port
}
