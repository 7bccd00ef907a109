/** Remote calls from bench to its child processes over Node's IPC channel. */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { BenchError } from '../scenario.js'

interface Call {
  id: number
  method: string
  argument: unknown
}

interface Answer {
  id: number
  value?: unknown
  error?: string
}

/** Methods by name. Each has one argument and one result, and both can be cloned (structuredClone). */
export type Methods = Record<string, (argument: never) => unknown>
type Argument<M extends Methods, K extends keyof M> = Parameters<M[K]>[0]
type Result<M extends Methods, K extends keyof M> = Awaited<ReturnType<M[K]>>

const END_MS_MAX = 5_000

/** A child process of bench. Its program is a compiled file that calls `serve`. */
export class Child<M extends Methods> {
  readonly #calls = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>()
  #nextId = 1
  #ended: string | null = null

  private constructor(
    readonly name: string,
    private readonly child: ChildProcess,
  ) {
    child.on('message', (answer: Answer) => this.#answered(answer))
    child.once('exit', (code, signal) => this.#gone(`ended by itself (${signal ?? `code ${code}`})`))
    child.once('error', (error) => this.#gone(`did not start: ${error.message}`))
  }

  /** `environment` is added to the variables of this process. */
  static start<M extends Methods>(
    name: string,
    file: URL,
    nodeOptions: readonly string[] = [],
    environment: Readonly<Record<string, string>> = {},
  ): Child<M> {
    const child = fork(file, {
      serialization: 'advanced',
      execArgv: [...nodeOptions],
      env: { ...process.env, ...environment },
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    })
    return new Child<M>(name, child)
  }

  get pid(): number {
    return this.child.pid ?? 0
  }

  call<K extends keyof M & string>(method: K, argument: Argument<M, K>): Promise<Result<M, K>> {
    if (this.#ended !== null) return Promise.reject(new BenchError(`${this.name} ${this.#ended}`))
    const id = this.#nextId++
    return new Promise((resolve, reject) => {
      this.#calls.set(id, { resolve: resolve as (value: unknown) => void, reject })
      const call: Call = { id, method, argument }
      this.child.send(call)
    })
  }

  /** Closes the channel, at which the child ends. A child that hangs is killed. */
  async stop(): Promise<void> {
    if (this.#ended !== null) return
    const exit = once(this.child, 'exit')
    if (this.child.connected) this.child.disconnect()
    const force = setTimeout(() => this.child.kill('SIGKILL'), END_MS_MAX)
    await exit
    clearTimeout(force)
  }

  #answered({ id, value, error }: Answer): void {
    const call = this.#calls.get(id)
    this.#calls.delete(id)
    if (error !== undefined) call?.reject(new BenchError(`${this.name}: ${error}`))
    else call?.resolve(value)
  }

  #gone(why: string): void {
    this.#ended = why
    for (const call of this.#calls.values()) call.reject(new BenchError(`${this.name} ${why}`))
    this.#calls.clear()
  }
}

/** Runs in the child: answers calls until the parent disconnects or dies. */
export function serve(methods: Methods): void {
  process.on('message', async ({ id, method, argument }: Call) => {
    const answer: Answer = { id }
    try {
      const handler = methods[method]
      if (!handler) throw new Error(`there is no ${method}`)
      answer.value = await handler(argument as never)
    } catch (error) {
      answer.error = error instanceof Error ? (error.stack ?? error.message) : String(error)
    }
    if (process.connected) process.send?.(answer)
  })
  process.once('disconnect', () => process.exit(0))
  // Ctrl-C at a terminal reaches every process of the group. The parent decides when its children end.
  process.on('SIGINT', () => undefined)
}
