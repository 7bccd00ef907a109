/** A transport and its nats-server, with generators as its devices: what the worker-only scenarios begin with. */
import type { Broker } from '../../src/nats/broker.js'
import { Generators } from '../generator/generators.js'
import type { Bench } from '../scenario.js'
import { dialectOf, newRun } from './fleet.js'
import { LocalSystem, systemFolder } from './local-system.js'
import { mergeOverrides, type Overrides } from './settings.js'

export interface TransportOptions {
  /** Worker processes; 0: as many as the connections need. */
  workers: number
  connections: number
  settings?: Overrides
  /** More variables for the transport and its workers. */
  environment?: Readonly<Record<string, string>>
}

export interface TransportRig {
  system: LocalSystem
  /** With a core's rights. */
  broker: Broker
  run: string
}

/** A worker holds 18,000 connections with the reference machine's 20,000 descriptors; the kernel spreads unevenly. */
const CONNECTIONS_PER_WORKER = 15_000

export const workersFor = (connections: number) => Math.ceil(connections / CONNECTIONS_PER_WORKER)

export async function startTransport(bench: Bench, options: TransportOptions): Promise<TransportRig> {
  const { workers, connections } = options
  const system = await LocalSystem.start({
    folder: systemFolder(bench.folder),
    parts: ['transport'],
    ...(options.environment && { environment: options.environment }),
    settings: mergeOverrides(
      // What is measured is the cost of handshakes, not their limit.
      {
        transport: {
          workers: workers || workersFor(connections),
          handshakesPerSecondMax: 1_000_000,
          // Nobody waits for a polite end.
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
