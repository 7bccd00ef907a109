/**
 * A process of the simulation with a connection of its own to the server. A test starts, stops and crashes it; a process
 * that fails to start is started again.
 */
import { CodedError } from '../../protocol/errors.js'
import { BrokerError } from '../../src/nats/broker.js'
import type { SimClient } from './client.js'
import type { WorldParts } from './parts.js'

/** The program that a process runs. */
export interface Program {
  /** Stops in order, as after SIGTERM. */
  stop(): Promise<void>
}

export type ProcessWorld = Pick<WorldParts, 'broker' | 'clock' | 'skews' | 'trace' | 'fail'>

const RESTART_MS = 400

export abstract class SimProcess<P extends Program, W extends ProcessWorld = ProcessWorld> {
  client: SimClient | null = null
  /** Null while the process is down, starting or stopping. */
  program: P | null = null
  private shouldRun = false
  private stopping = false

  constructor(
    readonly name: string,
    protected readonly world: W,
  ) {}

  /** Starts the program, and resolves when it is up. */
  protected abstract run(client: SimClient): Promise<P>

  get isUp(): boolean {
    return this.program !== null
  }

  /** True when the process was stopped and has ended. */
  get isGone(): boolean {
    return !this.shouldRun && !this.stopping
  }

  start(): void {
    if (this.shouldRun) return
    this.shouldRun = true
    this.boot()
  }

  crash(silently: boolean): void {
    this.shouldRun = false
    this.client?.crash(silently)
    this.forget()
  }

  /** Stops the process in order, as SIGTERM does. */
  stop(): void {
    const { client, program } = this
    if (!this.shouldRun || !program) return
    this.shouldRun = false
    this.stopping = true
    this.program = null
    void program
      .stop()
      .then(() => client?.close())
      .catch((error: unknown) => this.world.fail('internal', `${this.name} cannot stop: ${String(error)}`))
      .finally(() => {
        this.stopping = false
      })
  }

  /** Sets the error of the machine's clock, which stays over restarts. */
  setClock(skewMs: number): void {
    this.world.skews.set(this.name, skewMs)
    if (this.client) this.client.skewMs = skewMs
  }

  private boot(): void {
    const client = this.world.broker.brokerFor(this.name)
    client.skewMs = this.world.skews.get(this.name) ?? 0
    this.client = client
    this.run(client).then(
      (program) => {
        if (this.client !== client) return
        this.program = program
        this.world.trace.note(this.name, 'is up')
      },
      (error: unknown) => {
        if (this.client !== client) return
        const isExpected = error instanceof BrokerError || error instanceof CodedError
        if (!isExpected) this.world.fail('internal', `${this.name} cannot start: ${String(error)}`)
        // A real process would exit here, and its supervisor would start it again.
        this.world.trace.note(this.name, `did not start: ${String(error)}`)
        client.crash()
        this.forget()
        this.world.clock.after(RESTART_MS, () => {
          if (this.shouldRun && this.client === null) this.boot()
        })
      },
    )
  }

  private forget(): void {
    this.client = null
    this.program = null
  }
}
