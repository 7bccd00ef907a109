/** A generator process: one swarm, controlled by the parent. */
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
  /** What takes this process long and is not to be measured. */
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
  /** What a ramp left behind is no part of what a connection weighs. */
  collect: (): void => globalThis.gc?.(),
  newRound: (): void => theSwarm().tally.newRound(),
}

/** Cheap to ask for often. */
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
