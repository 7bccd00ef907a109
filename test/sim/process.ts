/** A process of the simulation on its own connection to the server: it starts, crashes, stops, and is started again. */
import { CodedError } from '../../protocol/errors.js'
import { BrokerError } from '../../src/nats/broker.js'
import type { SimClient } from './client.js'
import type { WorldParts } from './parts.js'

/** What a process runs. */
export interface Program {
  /** In order, as after SIGTERM. */
  stop(): Promise<void>
}

export type ProcessWorld = Pick<WorldParts, 'broker' | 'clock' | 'skews' | 'trace' | 'fail'>

const RESTART_MS = 400

export abstract class SimProcess<P extends Program, W extends ProcessWorld = ProcessWorld> {
  client: SimClient | null = null
  /** Null: not up (yet), or on its way out. */
  program: P | null = null
  private wanted = false
  private stopping = false

  constructor(
    readonly name: string,
    protected readonly world: W,
  ) {}

  /** Resolves when it is up. */
  protected abstract run(client: SimClient): Promise<P>

  get isUp(): boolean {
    return this.program !== null
  }

  /** It was stopped, and has left. */
  get isGone(): boolean {
    return !this.wanted && !this.stopping
  }

  start(): void {
    if (this.wanted) return
    this.wanted = true
    this.begin()
  }

  crash(silently: boolean): void {
    this.wanted = false
    this.client?.crash(silently)
    this.forget()
  }

  /** SIGTERM. */
  stop(): void {
    const { client, program } = this
    if (!this.wanted || !program) return
    this.wanted = false
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

  /** How wrong the clock of its machine is from now on, also after a restart. */
  setClock(skewMs: number): void {
    this.world.skews.set(this.name, skewMs)
    if (this.client) this.client.skewMs = skewMs
  }

  private begin(): void {
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
        // As a process that exits and is started again.
        this.world.trace.note(this.name, `did not start: ${String(error)}`)
        client.crash()
        this.forget()
        this.world.clock.after(RESTART_MS, () => {
          if (this.wanted && this.client === null) this.begin()
        })
      },
    )
  }

  private forget(): void {
    this.client = null
    this.program = null
  }
}
