/**
 * One run of the scenario hold, phase by phase. Each phase writes its figures into the result at once, so that a run that
 * fails later still has them.
 */

import { totalmem } from 'node:os'
import { processesAtOnce } from '../../src/processors.js'
import { connectionsCap } from '../../src/transport/admission/descriptors.js'
import { workerCount } from '../../src/transport/supervisor/supervisor.js'
import { CONNECTIONS_PER_GENERATOR, pause } from '../generator/generators.js'
import { cpuMicrosOf } from '../measure/processes.js'
import { settledBytes } from '../measure/settled.js'
import { significant } from '../measure/stats.js'
import type { Bench } from '../scenario.js'
import { Instance } from '../system/instance.js'
import type { LocalSystem } from '../system/local-system.js'
import { freePort } from '../system/ports.js'
import { startWhole } from '../system/whole.js'
import { estimate, type Footprint, footprint, type Pids, perConnection, type Sizing } from './footprint.js'
import { MemoryWatch, mib } from './memory-watch.js'
import { broadcast, killOne, push, restartAll } from './operations.js'
import { emptyResult, type Result } from './result.js'
import { HeldService, pidsOf } from './service.js'

export interface HoldOptions {
  connections: number
  minutes: number
  keepaliveSeconds: number
  pushes: number
  pushRate: number
  flowRate: number
  rampPerSecond: number
  workers: number
  generators: number
}

/** With less available memory no more devices connect, because the later phases need memory as well. */
const RESERVE_BYTES = 1.5 * 2 ** 30
/** With less available memory the run ends. */
const FLOOR_BYTES = 0.4 * 2 ** 30
const ESTIMATED = [500_000, 1_000_000]
/** Room in each table for each device. The default of the product suffices for about two million. */
const TABLE_BYTES_PER_DEVICE = 400
const TABLE_BYTES_MIN = 512 * 2 ** 20
const REST_MS = 2_000

export class HoldRun {
  readonly result: Result
  readonly #watch: MemoryWatch
  #service: HeldService | null = null

  /** `availableBytes` reads the available memory; default that of the machine. */
  constructor(
    private readonly bench: Bench,
    private readonly options: HoldOptions,
    availableBytes?: () => number,
  ) {
    this.#watch = new MemoryWatch(RESERVE_BYTES, FLOOR_BYTES, availableBytes)
    bench.defer(() => this.#watch.stop())
    this.result = emptyResult(options.connections)
  }

  /** Resolves with the result, also if the run fails. */
  async run(): Promise<Result> {
    const { result } = this
    try {
      // Outside of the race below: an interrupted start could leave processes that nothing ends.
      await this.#start()
      for (const phase of [this.#ramp, this.#hold, this.#operate]) {
        await Promise.race([this.#watch.emergency, phase.call(this)])
      }
    } catch (error) {
      result.failure = error instanceof Error ? error.message : String(error)
      this.bench.progress.say(`failed: ${result.failure}`)
    }
    await this.#sumUp().catch((error: unknown) => {
      result.failure ||= String(error)
    })
    return result
  }

  async #start(): Promise<void> {
    const { bench, result } = this
    const { connections, workers, generators, keepaliveSeconds } = this.options
    this.#record('empty', null)
    const port = await freePort()
    const rig = await startWhole(bench, {
      connections,
      generators,
      workers,
      prepare: false,
      settings: {
        transport: {
          workers,
          connectionsTarget: connections,
          keepaliveMs: keepaliveSeconds * 1000,
          // The defaults of the product, so that devices leave as in production.
          drainMs: 10_000,
          drainJitterMs: 250,
          drainGraceMs: 2_000,
          // Twice the default: with dozens of workers and generators on few cores devices come back more slowly.
          restartMs: 60_000,
        },
        store: { tableBytesMax: Math.max(TABLE_BYTES_MIN, connections * TABLE_BYTES_PER_DEVICE) },
        admin: { port },
      },
      onStarted: (system) => this.#record('started', system),
    })
    const service = new HeldService(rig, new Instance(port), bench.progress)
    bench.defer(() => service.pusher.stop())
    this.#service = service
    result.workers = rig.system.pids('worker').length
    result.generators = rig.devices.pids.length
    bench.progress.say(`${result.workers} workers, ${result.generators} generators`)
    // Devices that are disconnected during the long ramp are counted, and reconnect.
    await rig.devices.behave({ spread: 0, reconnect: true })
    this.#record('ready')
  }

  async #ramp(): Promise<void> {
    const { result, bench, options } = this
    const service = this.#startedService
    const { devices } = service
    const { connections: count, rampPerSecond: perSecond } = options
    // More processes than cores would only take turns, with cold caches.
    const atATime = processesAtOnce()
    const ramp = await devices.ramp({ count, perSecond, atATime, shouldStop: () => this.#watch.isLow })
    // After an early end some handshakes are still in progress.
    if ((await devices.counts()).ready < options.connections) await pause(REST_MS)
    const { ready } = await devices.counts()
    result.connections = ready
    result.rampSeconds = significant(ramp.seconds)
    result.connectsPerSecond = Math.round(ready / ramp.seconds)
    service.ranges = await devices.ranges()
    await devices.collect()
    await settledBytes(() => footprint(ready, this.#pids()).serverRssBytes)
    this.#record('ramped')
    if (ready < options.connections) {
      result.limit = this.#limit(ready)
      bench.progress.say(`no more devices: ${result.limit}`)
    }
  }

  async #hold(): Promise<void> {
    const { result, bench } = this
    const { devices } = this.#startedService
    const seconds = this.options.minutes * 60
    const before = this.#cpu()
    const { pongs } = await devices.report()
    const startedMs = performance.now()
    for (let elapsed = 0; elapsed < seconds; elapsed = (performance.now() - startedMs) / 1000) {
      bench.progress.bar('holding', elapsed, seconds, 's')
      await Promise.race([pause(Math.min(1, seconds - elapsed) * 1000), this.#watch.emergency])
    }
    const micros = (performance.now() - startedMs) * 1000
    const after = this.#cpu()
    const cores = (part: keyof typeof after) => significant((after[part] - before[part]) / micros, 3)
    result.heldSeconds = significant(micros / 1e6)
    result.idleCores = cores('server')
    result.natsIdleCores = cores('nats')
    result.coreIdleCores = cores('core')
    result.generatorIdleCores = cores('generators')
    result.keepalives = (await devices.report()).pongs - pongs
    this.#recordHeld()
    result.storeBytesPerDevice = await this.#storeBytes()
  }

  async #operate(): Promise<void> {
    const { result, options } = this
    const service = this.#startedService
    result.pushes = await push(service, options.pushes, options.pushRate)
    result.broadcast = await broadcast(service)
    result.kill = await killOne(service, options.flowRate)
    result.rollingRestart = await restartAll(service, options.flowRate)
  }

  async #sumUp(): Promise<void> {
    const { result } = this
    result.lowestAvailableBytes = Math.round(this.#watch.lowestBytes)
    if (!this.#service) return
    if (result.stages.held === undefined) this.#recordHeld()
    const totals = await this.#service.devices.report()
    result.closes = totals.closes
    result.refused = totals.refused
    result.failedConnects = totals.failed
    result.duplicatesSeenByApp = totals.duplicatesSeenByApp
    result.unexpectedDisconnects = Math.max(0, totals.unexpectedDisconnects - (result.kill?.devices ?? 0))
    result.lost = (await this.#service.counts()).missing + (result.broadcast?.lost ?? 0)
  }

  // ---- memory ---------------------------------------------------------------------------------

  get #startedService(): HeldService {
    if (!this.#service) throw new Error('the service is not started')
    return this.#service
  }

  #pids(system: LocalSystem | null = this.#service?.rig.system ?? null): Pids {
    return pidsOf(system, this.#service?.devices ?? null)
  }

  #cpu(): Record<keyof Pids, number> {
    const { server, core, nats, generators } = this.#pids()
    return {
      server: cpuMicrosOf(server),
      core: cpuMicrosOf(core),
      nats: cpuMicrosOf(nats),
      generators: cpuMicrosOf(generators),
    }
  }

  #record(stage: string, system?: LocalSystem | null): Footprint {
    const reading = footprint(this.result.connections, this.#pids(system))
    this.result.stages[stage] = reading
    if (stage === 'empty') this.result.totalMemoryBytesBefore = reading.usedBytes
    return reading
  }

  #limit(ready: number): string {
    const { serverPssBytes, generatorPssBytes, natsRssBytes, kernelBytes } = this.#record('ramped')
    return (
      `memory: with ${ready.toLocaleString('en')} devices ${mib(this.#watch.lowestBytes)} were available. ` +
      `Server ${mib(serverPssBytes)}, generators ${mib(generatorPssBytes)}, nats-server ${mib(natsRssBytes)}, kernel ${mib(kernelBytes)}`
    )
  }

  /** Records the memory at the end of the hold, or at the early end of a run. */
  #recordHeld(): void {
    const { result } = this
    const held = this.#record('held')
    result.serverRssBytes = held.serverRssBytes
    result.serverPssBytes = held.serverPssBytes
    result.totalMemoryBytes = held.usedBytes
    result.kernelBytes = held.kernelBytes - (result.stages.ready?.kernelBytes ?? 0)
    result.natsRssBytes = held.natsRssBytes
    result.generatorRssBytes = held.generatorRssBytes
    result.generatorPssBytes = held.generatorPssBytes
    const { empty, started, ready } = result.stages
    if (!empty || !started || !ready || held.connections === 0) return
    const stages = { empty, started, ready, held }
    result.bytesPerConnection = perConnection(stages)
    result.estimates = ESTIMATED.map((count) => estimate(count, stages, this.#sizing()))
  }

  #sizing(): Sizing {
    const { transport } = this.#startedService.rig.system.config
    const cap = connectionsCap(transport.connectionsMax)
    const { wanted, workers, generators } = this.result
    const byRule = (connectionsTarget: number) =>
      workerCount({ ...transport, workers: 0, connectionsTarget }, processesAtOnce(), cap)
    return {
      workers: (count) => (count <= wanted ? workers : byRule(count)),
      generators: (count) => (count <= wanted ? generators : Math.ceil(count / CONNECTIONS_PER_GENERATOR)),
      machineBytes: totalmem(),
      reserveBytes: RESERVE_BYTES,
    }
  }

  async #storeBytes(): Promise<Result['storeBytesPerDevice']> {
    const { bus } = this.#startedService.rig.broker
    const bytesOf = async (bucket: string) => {
      const info = await bus.request(`$JS.API.STREAM.INFO.KV_${bucket}`, new Uint8Array(), { timeoutMs: 10_000 })
      const { state } = JSON.parse(Buffer.from(info).toString()) as { state: { bytes: number; messages: number } }
      return significant(state.bytes / Math.max(1, state.messages))
    }
    return { sessions: await bytesOf('SESSIONS'), devices: await bytesOf('DEVICES') }
  }
}
