/** One transport worker of the simulation: the real Worker over a simulated broker and simulated sockets. */
import type { TransportKeys } from '../../src/keyring.js'
import { BrokerError } from '../../src/nats/broker.js'
import { workerId } from '../../src/store/workers.js'
import { Worker } from '../../src/transport/worker.js'
import type { SimClient } from './client.js'
import { ISSUER, keyring } from './identities.js'
import type { SimSockets } from './net.js'
import type { WorldParts } from './parts.js'
import { type Program, SimProcess } from './process.js'

export interface WorkerSetup {
  /** Called at each start. */
  keys(): TransportKeys
  connectionsMax: number
}

const KEYS = keyring.transportKeys()
const SETUP: WorkerSetup = { keys: () => KEYS, connectionsMax: 1_000 }

interface TransportWorker extends Program {
  worker: Worker
}

export class WorkerProcess extends SimProcess<TransportWorker, WorldParts> {
  private sockets: SimSockets | null = null

  constructor(
    private readonly index: number,
    world: WorldParts,
    private readonly setup: WorkerSetup = SETUP,
  ) {
    super(`worker${index}`, world)
  }

  get links() {
    return [...(this.sockets?.links ?? [])]
  }

  override crash(silently: boolean): void {
    super.crash(silently)
    this.sockets?.crash(silently)
    this.sockets = null
  }

  /** Applies new keys, as a reload of the keyring does. */
  useKeys(keys: TransportKeys): void {
    this.program?.worker.useKeys(keys)
  }

  protected async run(client: SimClient): Promise<TransportWorker> {
    const { net, plan, clock } = this.world
    const sockets = net.socketsOf(client)
    this.sockets = sockets
    const worker = new Worker({
      broker: client,
      clock: client.clock,
      sockets,
      settings: plan.transport,
      split: plan.split,
      keys: this.setup.keys(),
      issuer: ISSUER,
      worker: workerId(this.index, clock.now()),
      connectionsMax: this.setup.connectionsMax,
      descriptors: () => null,
      lagMs: () => 0,
      log: this.world.loggerOf(this.name),
    })
    try {
      await worker.start()
    } catch (error) {
      sockets.crash(false)
      throw error
    }
    return { worker, stop: () => this.leave(worker, client) }
  }

  /** Drains and stops the worker, as SIGTERM does. */
  private async leave(worker: Worker, client: SimClient): Promise<void> {
    try {
      await worker.stop()
    } catch (error) {
      if (!(error instanceof BrokerError)) throw error
      // The supervisor kills a worker that does not stop.
      client.crash()
    }
  }
}
