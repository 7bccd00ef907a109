/** Starts a transport, its nats-server and generators: the setup of scenarios that measure a worker alone. */
import type { Broker } from '../../src/nats/broker.js'
import { Generators } from '../generator/generators.js'
import type { Bench } from '../scenario.js'
import { dialectOf, newRun } from './fleet.js'
import { LocalSystem, systemFolder } from './local-system.js'
import { mergeOverrides, type Overrides } from './settings.js'

export interface TransportOptions {
  /** Number of workers; 0: as many as the connections need. */
  workers: number
  connections: number
  settings?: Overrides
  /** Additional variables for the transport and its workers. */
  environment?: Readonly<Record<string, string>>
}

export interface TransportRig {
  system: LocalSystem
  /** A connection with the rights of a core. */
  broker: Broker
  run: string
}

/** Below the 18,000 that a worker may have with 20,000 open files, because the kernel distributes connections unevenly. */
const CONNECTIONS_PER_WORKER = 15_000

export const workersFor = (connections: number) => Math.ceil(connections / CONNECTIONS_PER_WORKER)

export async function startTransport(bench: Bench, options: TransportOptions): Promise<TransportRig> {
  const { workers, connections } = options
  const system = await LocalSystem.start({
    folder: systemFolder(bench.folder),
    parts: ['transport'],
    ...(options.environment && { environment: options.environment }),
    settings: mergeOverrides(
      // Without the limit of handshakes, which would be measured instead of their cost.
      {
        transport: {
          workers: workers || workersFor(connections),
          handshakesPerSecondMax: 1_000_000,
          // The end of a run need not drain devices.
          drainMs: 1,
          drainJitterMs: 0,
          drainGraceMs: 0,
        },
      },
      options.settings ?? {},
    ),
    onLine: (part, line) => {
      if (/"level":"(warn|error|fatal)"/.test(line)) bench.progress.say(`${part}: ${line}`)
    },
    onNotice: (text) => bench.progress.say(text),
  })
  bench.defer(() => system.stop())
  return { system, broker: await system.brokerAs('core'), run: newRun() }
}

export async function devicesOf(
  bench: Bench,
  { system, run }: Pick<TransportRig, 'system' | 'run'>,
  options: { connections: number; processes: number; first?: number; keepaliveMs?: number },
): Promise<Generators> {
  const generators = await Generators.start(
    {
      target: system.deviceTarget,
      dialect: dialectOf(system, { run }),
      keepaliveMs: system.config.transport.keepaliveMs,
      ...options,
    },
    bench.progress,
  )
  bench.defer(() => generators.stop())
  return generators
}
