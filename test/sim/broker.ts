/**
 * The simulated Broker: a nats-server in memory on a virtual clock, its faults drawn from one seeded random source. The
 * same seed gives the same run. Each process of a simulation gets a client of its own, which can be crashed, frozen,
 * cut off or given a wrong clock.
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
  /** Instead of `seed`: a source that others draw from as well. */
  random?: Random
  clock?: VirtualClock
  faults?: Partial<Faults>
  store?: Partial<StoreSettings>
}

const STORE = Value.Create(StoreSettings)

export class SimBroker {
  readonly clock: VirtualClock
  readonly random: Random
  /** May be changed at any time of a run, for example to heal everything before the last checks. */
  readonly faults: Faults
  readonly server: SimServer

  constructor(options: SimBrokerOptions = {}) {
    this.clock = options.clock ?? new VirtualClock()
    this.random = options.random ?? seeded(options.seed ?? 1)
    this.faults = { ...noFaults, ...options.faults }
    this.server = new SimServer(this.clock, this.random, this.faults, { ...STORE, ...options.store })
  }

  /** A new process' connection, up at once where the server is. A name may be used again after a crash. */
  brokerFor(name: string): SimClient {
    return new SimClient(name, this.server)
  }

  heal(): void {
    Object.assign(this.faults, noFaults)
  }

  /** Stops the server in order, or with kill -9, and starts it again `downMs` later. */
  restartServer(downMs: number, kill = false): void {
    this.server.down(kill)
    this.clock.quietly(downMs, () => this.server.start())
  }
}
