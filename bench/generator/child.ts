/** The program of a generator process: one swarm of devices, controlled by the parent. */
import type { Behaviour, Dialect, DialectConfig, DialectHost } from './dialect.js'
import { BareDialect } from './dialects/bare.js'
import { BorealisDialect } from './dialects/borealis.js'
import { MqttDialect } from './dialects/mqtt.js'
import { NatsDialect } from './dialects/nats.js'
import { serve } from './rpc.js'
import { type RampOptions, Swarm, type SwarmConfig } from './swarm.js'
import type { Report } from './tally.js'

let swarm: Swarm | null = null

const methods = {
  configure: async ({ config, dialect }: { config: SwarmConfig; dialect: DialectConfig }): Promise<void> => {
    await swarm?.stop()
    swarm = new Swarm(config, (host) => makeDialect(dialect, host))
  },
  /** Does slow work in advance, so that it is not measured. */
  prepare: (): void => {
    const swarm = theSwarm()
    if (swarm.dialect instanceof BorealisDialect) swarm.dialect.prepare(swarm.everyone())
  },
  behave: (behaviour: Partial<Behaviour>): void => {
    Object.assign(theSwarm().behaviour, behaviour)
  },
  ramp: (options: RampOptions): Promise<void> => theSwarm().ramp(options),
  halt: (): void => theSwarm().halt(),
  leave: ({ abrupt, count }: { abrupt: boolean; count?: number }): Promise<void> => theSwarm().leave(abrupt, count),
  report: (): Report => theSwarm().tally.report(),
  counts: (): Counts => {
    const { ready, delivered, groupDelivered } = theSwarm().tally
    return { ready, delivered, groupDelivered }
  },
  /** Collects the garbage of a ramp, so that it does not count as memory of connections. */
  collect: (): void => globalThis.gc?.(),
  newRound: (): void => theSwarm().tally.newRound(),
}

/** The few counts that the parent polls. */
export interface Counts {
  ready: number
  delivered: number
  groupDelivered: number
}

export type GeneratorMethods = typeof methods

function theSwarm(): Swarm {
  if (!swarm) throw new Error('not configured')
  return swarm
}

function makeDialect(config: DialectConfig, host: DialectHost): Dialect {
  switch (config.kind) {
    case 'borealis':
      return new BorealisDialect(host, config)
    case 'bare':
      return new BareDialect(host)
    case 'mqtt':
      return new MqttDialect(host)
    case 'nats':
      return new NatsDialect(host)
  }
}

serve(methods)
