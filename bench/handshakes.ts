/** All devices connect at once, and go by reset: to a transport, with a token or a ticket, and to bare uWebSockets.js. */
import { type BaselineServer, bareDevices, startBare } from './baselines/bare.js'
import { type Generators, pause } from './generator/generators.js'
import type { Processes } from './measure/cpu-look.js'
import { type Preload, preloadEnvironment } from './measure/preload.js'
import type { Bench } from './scenario.js'
import { type Stretch, spending } from './stretch.js'
import { devicesOf, startTransport } from './system/transport-only.js'

export interface HandshakeOptions {
  connections: number
  /** Handshakes under way, most. */
  inFlight: number
  workers: number
  /** Generator processes, at least. */
  generators: number
}

/** Closes and their tombstones are done, and garbage is collected, before the next wave is measured. */
const REST_MS = 700

export class Handshakes {
  private constructor(
    private readonly options: HandshakeOptions,
    readonly devices: Generators,
    /** Workers, and the nats-server behind them. */
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

  /** With a token; each device has a ticket then. */
  async full(): Promise<Stretch> {
    await this.devices.prepare()
    await this.devices.behave({ resume: false })
    return this.#wave(this.devices, this.transport, 'full')
  }

  /** With the tickets of the wave before. */
  async resumed(): Promise<Stretch> {
    await this.devices.behave({ resume: true })
    await this.devices.newRound()
    return this.#wave(this.devices, this.transport, 'resumed')
  }

  async upgraded(): Promise<Stretch> {
    const wave = await this.#wave(this.bareClients, this.bare, 'bare')
    await this.bareServer.forget()
    return wave
  }

  /** Only the coming is measured. */
  async #wave(devices: Generators, processes: Processes, label: string): Promise<Stretch> {
    const { inFlight: inFlightMax } = this.options
    const count = devices.connections
    const { done, cpu } = await spending(processes, () => devices.ramp({ count, inFlightMax, label }))
    await devices.leave({ abrupt: true })
    await pause(REST_MS)
    return { operations: count, perSecond: count / done.seconds, cpu }
  }
}
