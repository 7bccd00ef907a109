/**
 * The simulated broker: a nats-server in memory on a virtual clock, with faults from one seeded random source. The same
 * seed gives the same run. Each simulated process has a client of its own, which a test can crash, freeze, partition or
 * give a wrong clock. The contract suite (test/contract) runs against it and against a real nats-server.
 */
import { Value } from 'typebox/value'
import { StoreSettings } from '../../src/nats/settings.js'
import { SimClient } from './client.js'
import { VirtualClock } from './clock.js'
import { type Faults, noFaults } from './faults.js'
import { type Random, seeded } from './random.js'
import { SimServer } from './server.js'

export interface SimBrokerOptions {
  seed?: number
  /** A random source that is shared with other parts; replaces `seed`. */
  random?: Random
  clock?: VirtualClock
  faults?: Partial<Faults>
  store?: Partial<StoreSettings>
  /** Keeps all records that were ever stored, for the checks of a run. Default true; a long run has no room for them. */
  keepsEver?: boolean
}

const STORE = Value.Create(StoreSettings)

export class SimBroker {
  readonly clock: VirtualClock
  readonly random: Random
  /** A test may change the faults during a run. */
  readonly faults: Faults
  readonly server: SimServer

  constructor(options: SimBrokerOptions = {}) {
    this.clock = options.clock ?? new VirtualClock()
    this.random = options.random ?? seeded(options.seed ?? 1)
    this.faults = { ...noFaults, ...options.faults }
    this.server = new SimServer(this.clock, this.random, this.faults, { ...STORE, ...options.store }, options.keepsEver)
  }

  /** A client for a new process. It is connected at once if the server is up. A name may be reused after a crash. */
  brokerFor(name: string): SimClient {
    return new SimClient(name, this.server)
  }

  /** Ends all faults. */
  heal(): void {
    Object.assign(this.faults, noFaults)
  }

  /** Stops the server, in order or by kill -9, and starts it again `downMs` later. */
  restartServer(downMs: number, kill = false): void {
    this.server.down(kill)
    this.clock.quietly(downMs, () => this.server.start())
  }
}
