/** Starts a complete system with a registered fleet: the setup of scenarios that go from HTTP to the device. */
import type { Broker } from '../../src/nats/broker.js'
import type { Generators } from '../generator/generators.js'
import type { Bench } from '../scenario.js'
import { accessToken, createTenant, type Fleet, registerDevices } from './fleet.js'
import { LocalSystem, systemFolder } from './local-system.js'
import { mergeOverrides, type Overrides } from './settings.js'
import { devicesOf, workersFor } from './transport-only.js'

export interface WholeOptions {
  connections: number
  /** Number of workers; 0: as many as the connections need. */
  workers: number
  generators: number
  settings?: Overrides
  /** Called when the service is up, before its devices are registered. */
  onStarted?(system: LocalSystem): void
  /** Default true: device tokens are made in advance. */
  prepare?: boolean
}

export interface WholeRig {
  system: LocalSystem
  broker: Broker
  fleet: Fleet
  /** Access token of the fleet's project. */
  token: string
  devices: Generators
}

/** Resolves when the service is up and its devices are registered. They are not connected yet. */
export async function startWhole(bench: Bench, options: WholeOptions): Promise<WholeRig> {
  const { connections, workers, generators, onStarted = () => undefined, prepare = true } = options
  const system = await LocalSystem.start({
    folder: systemFolder(bench.folder),
    settings: mergeOverrides(
      { transport: { workers: workers || workersFor(connections), drainMs: 1, drainJitterMs: 0, drainGraceMs: 0 } },
      options.settings ?? {},
    ),
    onLine: (part, line) => {
      if (/"level":"(error|fatal)"/.test(line)) bench.progress.say(`${part}: ${line}`)
    },
    onNotice: (text) => bench.progress.say(text),
  })
  bench.defer(() => system.stop())
  onStarted(system)
  const broker = await system.brokerAs('core')
  const fleet = await createTenant(broker)
  await registerDevices(broker, fleet, {
    count: connections,
    onProgress: (done) => bench.progress.bar('registered', done, connections),
  })
  const devices = await devicesOf(bench, { system, run: fleet.run }, { connections, processes: generators })
  if (prepare) await devices.prepare()
  await devices.behave({ spread: connections })
  return { system, broker, fleet, token: await accessToken(system, broker, fleet), devices }
}
