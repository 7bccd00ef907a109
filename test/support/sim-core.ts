/** A simulated installation for tests of the delivery steps: server, core processes and fake workers on a virtual clock. */
import type { CoreSettings } from '../../src/core/settings.js'
import { SimBroker, type SimBrokerOptions } from '../sim/broker.js'
import type { SimClient } from '../sim/client.js'
import { startTestCore, type TestCore } from './core.js'
import { FakeWorker } from './fake-worker.js'

export const SIM_SPLIT = 1

export interface SimCore extends TestCore {
  /** The simulated process of this core, which a test can crash, freeze or cut off. */
  readonly process: SimClient
}

export class SimInstallation {
  readonly sim: SimBroker
  private count = 0

  constructor(options: SimBrokerOptions = {}) {
    this.sim = new SimBroker({ ...options, store: { ...options.store, split: SIM_SPLIT } })
  }

  /** Advances virtual time until the promise is settled. */
  advanceUntil<T>(promise: Promise<T>): Promise<T> {
    return this.sim.clock.advanceUntil(promise)
  }

  /** Starts a core process. The test reads through a connection of its own, which outlives that of the core. */
  async core(settings: Partial<CoreSettings> = {}): Promise<SimCore> {
    const process = this.sim.brokerFor(`core-${++this.count}`)
    const observer = this.sim.brokerFor(`observer-${this.count}`)
    const core = await this.advanceUntil(
      startTestCore(process, SIM_SPLIT, settings, process.clock, this.sim.random, observer),
    )
    return { ...core, process }
  }

  worker(name = `${this.count}-w`): FakeWorker {
    const process = this.sim.brokerFor(`worker-${name}`)
    return new FakeWorker(process, name, process.clock).start()
  }
}
