/** A part of `borealis start`: a child process of the same program, restarted after a crash. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { CommandError } from '../context.js'
import type { ReadyNotice } from '../service.js'
import { v8Flags } from '../v8-flags.js'

export interface ChildOptions {
  name: string
  /** Script for Node; by default `borealis` itself. */
  program?: string
  args: readonly string[]
  environment: Readonly<Record<string, string>>
  /** Finds the readiness in the child's output. Without it, the child reports it over the IPC channel (service.ts). */
  readyIn?(line: string, stream: 'stdout' | 'stderr'): ReadyNotice['ready'] | null
  /** Receives each line of the child's output. */
  onLine(line: string, stream: 'stdout' | 'stderr'): void
  /** Receives news for the operator, such as a crash or a restart. */
  onNotice(text: string): void
  /** Called when the child crashed so often that another restart is pointless. */
  onLost(reason: string): void
}

const borealis = fileURLToPath(new URL('../../cli.js', import.meta.url))

const readyMsMax = 60_000
const stopMsMax = 15_000
const restartMsFirst = 200
const restartMsMax = 10_000
/** After so many crashes in a row, each within `steadyMs` of its start, the child is given up. */
const crashesMax = 5
const steadyMs = 30_000
const linesKept = 15

export class Child {
  #process: ChildProcess | null = null
  #stopping = false
  #crashes = 0
  #restart: NodeJS.Timeout | null = null
  #lastLines: string[] = []

  constructor(readonly options: ChildOptions) {}

  /** Resolves with the child's report when it is ready. Rejects, with its last lines, if it ended or stayed silent. */
  async start(): Promise<ReadyNotice['ready']> {
    const { name, program = borealis, args, environment } = this.options
    this.#lastLines = []
    // In a process group of its own, so that Ctrl-C reaches only `borealis start`, which stops the parts in order.
    const child = spawn(process.execPath, [...v8Flags(name), program, ...args], {
      detached: true,
      env: { ...process.env, ...environment },
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    })
    this.#process = child
    const startedAt = performance.now()
    this.#follow(child.stdout, 'stdout')
    this.#follow(child.stderr, 'stderr')
    const ready = await this.#untilReady(child, name)
    child.once('exit', (code, signal) => this.#ended(performance.now() - startedAt, signal ?? `code ${code}`))
    return ready
  }

  /** Sends SIGTERM, and later SIGKILL. Resolves when the child is gone. */
  async stop(): Promise<void> {
    this.#stopping = true
    if (this.#restart !== null) clearTimeout(this.#restart)
    const child = this.#process
    if (child === null || child.exitCode !== null || child.signalCode !== null) return
    const gone = once(child, 'exit')
    child.kill('SIGTERM')
    const force = setTimeout(() => {
      this.options.onNotice(`${this.options.name} did not stop in ${stopMsMax / 1000} s: killed`)
      child.kill('SIGKILL')
    }, stopMsMax)
    await gone
    clearTimeout(force)
  }

  kill(): void {
    this.#stopping = true
    this.#process?.kill('SIGKILL')
  }

  get pid(): number | undefined {
    return this.#process?.pid
  }

  #follow(stream: Readable | null, which: 'stdout' | 'stderr'): void {
    if (stream === null) return
    createInterface({ input: stream }).on('line', (line) => {
      if (which === 'stderr') this.#lastLines = [...this.#lastLines, line].slice(-linesKept)
      this.options.onLine(line, which)
      const ready = this.options.readyIn?.(line, which)
      if (ready) this.#process?.emit('message', { ready } satisfies ReadyNotice, undefined)
    })
  }

  #untilReady(child: ChildProcess, name: string): Promise<ReadyNotice['ready']> {
    return new Promise((resolve, reject) => {
      const settle = (finish: () => void) => {
        clearTimeout(timer)
        child.off('message', onMessage).off('exit', onExit).off('error', onError)
        finish()
      }
      const refuse = (why: string) =>
        settle(() => reject(new CommandError(`${name} ${why}${this.#lastLines.map((line) => `\n  ${line}`).join('')}`)))
      const onMessage = (message: unknown) => {
        const { ready } = message as Partial<ReadyNotice>
        if (ready !== undefined) settle(() => resolve(ready))
      }
      const onExit = (code: number | null, signal: string | null) => refuse(`ended with ${signal ?? `code ${code}`}`)
      const onError = (error: Error) => refuse(`could not be started: ${error.message}`)
      const timer = setTimeout(() => {
        child.kill('SIGKILL')
        refuse(`was not ready in ${readyMsMax / 1000} s`)
      }, readyMsMax)
      child.on('message', onMessage).on('exit', onExit).on('error', onError)
    })
  }

  #ended(ranMs: number, how: string): void {
    if (this.#stopping) return
    const { name, onNotice, onLost } = this.options
    this.#crashes = ranMs > steadyMs ? 1 : this.#crashes + 1
    if (this.#crashes >= crashesMax) {
      onLost(`${name} crashed ${this.#crashes} times in a row (last: ${how})`)
      return
    }
    const waitMs = Math.min(restartMsMax, restartMsFirst * 2 ** (this.#crashes - 1))
    onNotice(`${name} ended unexpectedly (${how}): starting it again in ${waitMs / 1000} s`)
    this.#restart = setTimeout(() => {
      this.start().then(
        () => onNotice(`${name} is back`),
        (error: Error) => {
          onNotice(error.message)
          this.#ended(0, 'not ready')
        },
      )
    }, waitMs)
  }
}
