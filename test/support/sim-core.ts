/** A simulated installation for tests of the steps: a server, core processes and fake workers on one virtual clock. */
import type { CoreSettings } from '../../src/core/settings.js'
import { SimFabric, type SimFabricOptions } from '../sim/broker.js'
import type { SimClient } from '../sim/client.js'
import { startTestCore, type TestCore } from './core.js'
import { FakeWorker } from './fake-worker.js'

export const SIM_SPLIT = 1

export interface SimCore extends TestCore {
  /** The process: to crash, freeze or cut off. */
  readonly process: SimClient
}

export class SimInstallation {
  readonly sim: SimFabric
  private count = 0

  constructor(options: SimFabricOptions = {}) {
    this.sim = new SimFabric({ ...options, store: { ...options.store, split: SIM_SPLIT } })
  }

  /** Runs virtual time until the promise settled. */
  run<T>(promise: Promise<T>): Promise<T> {
    return this.sim.clock.settle(promise)
  }

  /** The test looks with a connection of its own, which outlives the core's. */
  async core(settings: Partial<CoreSettings> = {}): Promise<SimCore> {
    const process = this.sim.fabricFor(`core-${++this.count}`)
    const observer = this.sim.fabricFor(`observer-${this.count}`)
    const core = await this.run(startTestCore(process, SIM_SPLIT, settings, process.clock, this.sim.random, observer))
    return { ...core, process }
  }

  worker(name = `${this.count}-w`): FakeWorker {
    const process = this.sim.fabricFor(`worker-${name}`)
    return new FakeWorker(process, name, process.clock).start()
  }
}
