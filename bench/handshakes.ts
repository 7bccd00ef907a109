/**
 * Waves of handshakes: all devices connect at once, then all leave with a TCP reset. One wave connects to a transport with
 * device tokens, one with resume tickets, and one to bare uWebSockets.js.
 */
import { type BaselineServer, bareDevices, startBare } from './baselines/bare.js'
import { type Generators, pause } from './generator/generators.js'
import type { Processes } from './measure/cpu-usage.js'
import { type Preload, preloadEnvironment } from './measure/preload.js'
import { type Measurement, measureCpu } from './measurement.js'
import type { Bench } from './scenario.js'
import { devicesOf, startTransport } from './system/transport-only.js'

export interface HandshakeOptions {
  connections: number
  /** Most handshakes in progress at a time. */
  inFlight: number
  workers: number
  /** Least number of generator processes. */
  generators: number
}

/** Pause between two waves, so that the closes of one, their tombstones and their garbage do not count for the next. */
const REST_MS = 700

export class Handshakes {
  private constructor(
    private readonly options: HandshakeOptions,
    readonly devices: Generators,
    /** The workers, and as `behindPids` their nats-server. */
    readonly transport: Processes,
    private readonly bareClients: Generators,
    private readonly bareServer: BaselineServer,
  ) {}

  static async start(bench: Bench, options: HandshakeOptions, preload?: Preload): Promise<Handshakes> {
    const { connections, generators } = options
    const rig = await startTransport(bench, {
      ...options,
      ...(preload && { environment: preloadEnvironment(preload) }),
    })
    const devices = await devicesOf(bench, rig, { connections, processes: generators })
    const server = await startBare(bench, { natsUrl: null, topic: false }, preload)
    const bare = await bareDevices(bench, server, { connections, processes: generators, keepaliveMs: 0 })
    const transport = { serverPids: rig.system.pids('worker'), behindPids: rig.system.pids('nats') }
    return new Handshakes(options, devices, transport, bare, server)
  }

  get bare(): Processes {
    return { serverPids: [this.bareServer.pid], behindPids: [] }
  }

  /** Full handshakes with a device token. Afterwards each device has a resume ticket. */
  async full(): Promise<Measurement> {
    await this.devices.prepare()
    await this.devices.behave({ resume: false })
    return this.#wave(this.devices, this.transport, 'full')
  }

  /** Resumed handshakes with the tickets of the previous wave. */
  async resumed(): Promise<Measurement> {
    await this.devices.behave({ resume: true })
    await this.devices.newRound()
    return this.#wave(this.devices, this.transport, 'resumed')
  }

  /** Upgrades to WebSocket alone, on bare uWebSockets.js. */
  async upgraded(): Promise<Measurement> {
    const wave = await this.#wave(this.bareClients, this.bare, 'bare')
    await this.bareServer.forget()
    return wave
  }

  /** Measures the connects only, not the closes. */
  async #wave(devices: Generators, processes: Processes, label: string): Promise<Measurement> {
    const { inFlight: inFlightMax } = this.options
    const count = devices.connections
    const { done, cpu } = await measureCpu(processes, () => devices.ramp({ count, inFlightMax, label }))
    await devices.leave({ abrupt: true })
    await pause(REST_MS)
    return { operations: count, perSecond: count / done.seconds, cpu }
  }
}
