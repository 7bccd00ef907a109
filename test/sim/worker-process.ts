/** One transport worker of the simulation: the real Worker over a simulated broker and simulated sockets. */
import { BrokerError } from '../../src/nats/broker.js'
import { workerId } from '../../src/store/workers.js'
import { Worker } from '../../src/transport/worker.js'
import type { SimClient } from './client.js'
import { ISSUER, keyring } from './identities.js'
import type { SimSockets } from './net.js'
import type { WorldParts } from './parts.js'

const KEYS = keyring.transportKeys()
const CONNECTIONS_MAX = 1_000
const RESTART_MS = 400

export class WorkerProcess {
  client: SimClient | null = null
  private sockets: SimSockets | null = null
  private worker: Worker | null = null
  private shouldRun = false

  constructor(
    private readonly index: number,
    private readonly world: WorldParts,
  ) {}

  get name(): string {
    return `worker${this.index}`
  }

  get isUp(): boolean {
    return this.worker !== null
  }

  get links() {
    return [...(this.sockets?.links ?? [])]
  }

  start(): void {
    if (this.shouldRun) return
    this.shouldRun = true
    this.boot()
  }

  crash(silently: boolean): void {
    this.shouldRun = false
    this.client?.crash(silently)
    this.sockets?.crash(silently)
    this.forget()
  }

  /** Drains and stops the worker, as SIGTERM does. */
  stop(): void {
    const { worker, client } = this
    if (!this.shouldRun || !worker) return
    this.shouldRun = false
    this.worker = null
    worker.stop().then(
      () => client?.close(),
      (error: unknown) => {
        if (!(error instanceof BrokerError)) this.world.fail('internal', `${this.name} cannot stop: ${String(error)}`)
        // The supervisor kills a worker that does not stop.
        client?.crash()
      },
    )
  }

  private boot(): void {
    const { broker, net, plan, clock, skews } = this.world
    const client = broker.brokerFor(this.name)
    const sockets = net.socketsOf(client)
    client.skewMs = skews.get(this.name) ?? 0
    this.client = client
    this.sockets = sockets
    const worker = new Worker({
      broker: client,
      clock: client.clock,
      sockets,
      settings: plan.transport,
      split: plan.split,
      keys: KEYS,
      issuer: ISSUER,
      worker: workerId(this.index, clock.now()),
      connectionsMax: CONNECTIONS_MAX,
      descriptors: () => null,
      lagMs: () => 0,
      log: this.world.loggerOf(this.name),
    })
    worker.start().then(
      () => {
        if (this.client !== client) return
        this.worker = worker
        this.world.trace.note(this.name, 'is up')
      },
      (error: unknown) => {
        if (this.client !== client) return
        if (!(error instanceof BrokerError)) this.world.fail('internal', `${this.name} cannot start: ${String(error)}`)
        client.crash()
        sockets.crash(false)
        this.forget()
        clock.after(RESTART_MS, () => {
          if (this.shouldRun && this.client === null) this.boot()
        })
      },
    )
  }

  private forget(): void {
    this.client = null
    this.sockets = null
    this.worker = null
  }
}
