/**
 * A whole Borealis on free ports of this machine, each part a process of the built command line: for bench, the demo and
 * the fault runs. A part that is killed comes back by itself, as under any supervisor.
 */
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { DEVICE_PATH } from '../../protocol/frame.js'
import { Child } from '../../src/cli/start/child.js'
import { DataFolder } from '../../src/cli/start/folder.js'
import { type Nats, startNats, stopNats } from '../../src/cli/start/nats.js'
import { claimPorts } from '../../src/cli/start/ports.js'
import type { Config } from '../../src/config/config.js'
import { Keyring } from '../../src/keyring.js'
import type { Broker } from '../../src/nats/broker.js'
import { connect } from '../../src/nats/connect.js'
import { ensureStreams } from '../../src/nats/server/streams.js'
import { childrenOf, isAlive } from '../measure/processes.js'
import { configWith, environmentOf, mergeOverrides, type Overrides } from './settings.js'

export type PartName = 'core' | 'transport'
/** What can be killed; `worker` is a child of the transport. */
export type Victim = PartName | 'worker' | 'nats'
export type Role = 'core' | 'transport' | 'admin' | 'publisher'

export interface SystemOptions {
  /** Everything is kept here; may be an empty folder, or that of an earlier system to go on from. */
  folder: string
  /** Default both. Without a core somebody else plays the router. */
  parts?: readonly PartName[]
  /** Core processes, default 1; each listens on a port of its own. */
  cores?: number
  settings?: Overrides
  /** More variables for the processes of the parts. */
  environment?: Readonly<Record<string, string>>
  /** More variables for a part, on top of all others; what it starts inherits them. */
  partEnvironment?(part: PartName, natsUrl: string): Record<string, string>
  /** Each line of each part: its log as JSON, or what a crash wrote. */
  onLine?(part: PartName, line: string): void
  /** Crashes and returns. */
  onNotice?(text: string): void
}

const LOOPBACK = '127.0.0.1'
const RESTART_MS = 500

export class LocalSystem {
  /** By name; of several cores, those after the first have a number. */
  readonly #parts = new Map<string, Child>()
  readonly #brokers: Broker[] = []
  #stopping: Promise<void> | null = null

  private constructor(
    readonly config: Config,
    readonly keyring: Keyring,
    private readonly folder: DataFolder,
    private readonly nats: Nats,
    private readonly httpPorts: readonly number[],
  ) {}

  /** Resolves when every part is ready. Leaves nothing behind where one is not. */
  static async start(options: SystemOptions): Promise<LocalSystem> {
    const { parts = ['core', 'transport'], cores = 1, onNotice = () => undefined } = options
    const folder = DataFolder.claim(options.folder)
    const [devicePort = 0, natsPort = 0, ...httpPorts] = await claimPorts(
      ['transport.port', 'start.natsPort', ...Array<string>(cores).fill('http.port')].map((setting) => ({
        host: LOOPBACK,
        port: 0,
        setting,
        variable: setting,
      })),
    )
    const overrides = mergeOverrides(
      {
        http: { host: LOOPBACK, port: httpPorts[0] ?? 0 },
        transport: { host: LOOPBACK, port: devicePort },
        auth: { transportUrl: `ws://${LOOPBACK}:${devicePort}${DEVICE_PATH}` },
        keyring: { file: folder.file('keyring.json') },
        log: { format: 'json' },
      },
      options.settings ?? {},
    )
    const config = configWith(overrides)
    const keyring = Keyring.open(config.keyring.file, Date.now())
    const nats = await startNats(config, folder, natsPort, onNotice, undefined, Number.POSITIVE_INFINITY)
    const system = new LocalSystem(config, keyring, folder, nats, httpPorts)
    try {
      const admin = await system.brokerAs('admin')
      await ensureStreams(admin.bus, config.store)
      const environment = { ...environmentOf(overrides), ...options.environment }
      for (const name of parts) await system.#startPart(name, name, environment, options)
      for (const [index, port] of parts.includes('core') ? httpPorts.slice(1).entries() : []) {
        const own = environmentOf({ http: { port } })
        await system.#startPart(`core-${index + 2}`, 'core', { ...environment, ...own }, options)
      }
      return system
    } catch (error) {
      await system.stop()
      throw error
    }
  }

  /** How a part of that role connects. */
  natsAs(role: Role): Config['nats'] {
    return this.nats.settingsAs(role)
  }

  get natsUrl(): string {
    return this.nats.url
  }

  get httpUrl(): string {
    return `http://${LOOPBACK}:${this.config.http.port}`
  }

  /** One for each core. */
  get httpUrls(): string[] {
    return this.httpPorts.map((port) => `http://${LOOPBACK}:${port}`)
  }

  /** Where devices connect. */
  get deviceTarget(): { host: string; port: number; path: string } {
    return { host: LOOPBACK, port: this.config.transport.port, path: DEVICE_PATH }
  }

  /** A connection of the caller's own to NATS; closed by stop(). */
  async brokerAs(role: Role, name = `bench-${role}`): Promise<Broker> {
    const broker = await connect(this.nats.settingsAs(role), { name })
    this.#brokers.push(broker)
    return broker
  }

  /** Process ids of a part, none while it is away; looked up now, for a crashed one comes back under another. */
  pids(victim: Victim): number[] {
    const transport = () => this.#parts.get('transport')?.pid ?? 0
    if (victim === 'worker') return transport() > 0 ? childrenOf(transport()).filter(isAlive) : []
    const found = victim === 'nats' ? [this.nats.server?.pid] : this.#partsOf(victim).map((part) => part.pid)
    // 0 would be a whole process group: ours.
    return found.filter((pid): pid is number => pid !== undefined && pid > 0 && isAlive(pid))
  }

  /** Sends the signal to each process of that name, or to the one at `index`. Gives the pids. */
  kill(victim: Victim, signal: NodeJS.Signals = 'SIGKILL', index?: number): number[] {
    const pids = this.pids(victim)
    const meant = index === undefined ? pids : pids.slice(index, index + 1)
    for (const pid of meant) process.kill(pid, signal)
    return meant
  }

  /** In order: parts, then NATS. May be called again. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop()
    return this.#stopping
  }

  async #stop(): Promise<void> {
    // What is frozen cannot stop.
    const parts = (['core', 'transport'] as const).filter((name) => this.#parts.has(name))
    for (const victim of ['nats', 'worker', ...parts] as const) this.kill(victim, 'SIGCONT')
    await Promise.all([...this.#parts.values()].map((part) => part.stop()))
    await Promise.all(this.#brokers.map((broker) => broker.close()))
    await stopNats(this.nats)
    this.folder.release()
  }

  async #startPart(
    key: string,
    name: PartName,
    environment: Record<string, string>,
    options: SystemOptions,
  ): Promise<void> {
    const { onNotice = () => undefined, onLine = () => undefined, partEnvironment = () => ({}) } = options
    const part = new Child({
      name,
      args: [name],
      environment: { ...environment, ...this.nats.environmentAs(name), ...partEnvironment(name, this.nats.url) },
      onLine: (line) => onLine(name, line),
      onNotice,
      // A fault run crashes parts on purpose, and more often than `borealis start` puts up with.
      onLost: (reason) => {
        onNotice(`${reason}: starting it anew`)
        void this.#startAnew(key, name, environment, options)
      },
    })
    this.#parts.set(key, part)
    await part.start()
  }

  /** Until it is there: a fault may hit it while it starts. */
  async #startAnew(
    key: string,
    name: PartName,
    environment: Record<string, string>,
    options: SystemOptions,
  ): Promise<void> {
    while (!this.#stopping) {
      try {
        await this.#startPart(key, name, environment, options)
        return
      } catch (error) {
        options.onNotice?.(String(error))
        await sleep(RESTART_MS)
      }
    }
  }

  #partsOf(name: PartName): Child[] {
    const parts = [...this.#parts].filter(([key]) => key === name || key.startsWith(`${name}-`)).map(([, part]) => part)
    if (parts.length === 0) throw new RangeError(`this system has no ${name}`)
    return parts
  }
}

/** Where a system of this run keeps its data. */
export const systemFolder = (runFolder: string) => join(runFolder, 'system')
