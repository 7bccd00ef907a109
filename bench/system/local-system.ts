/**
 * A complete Borealis on free ports of this machine, for bench, the demo and the fault runs. Each part is a process of the
 * built command line. A killed part is started again, as a supervisor would do.
 */
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { DEVICE_PATH } from '../../protocol/frame.js'
import { ensureKeyring } from '../../src/cli/keyring-file.js'
import { Child } from '../../src/cli/start/child.js'
import { DataFolder } from '../../src/cli/start/folder.js'
import { type Nats, startNats, stopNats } from '../../src/cli/start/nats.js'
import { claimPorts } from '../../src/cli/start/ports.js'
import type { Config } from '../../src/config/config.js'
import type { Keyring } from '../../src/keyring.js'
import type { Broker } from '../../src/nats/broker.js'
import { connect } from '../../src/nats/connect.js'
import type { NatsUser } from '../../src/nats/server/permissions.js'
import { ensureStreams } from '../../src/nats/server/streams.js'
import { childrenOf, isAlive } from '../measure/processes.js'
import { configWith, environmentOf, mergeOverrides, type Overrides } from './settings.js'

export type PartName = 'core' | 'transport'
/** The processes that kill() can end. A worker is a child of the transport. */
export type Victim = PartName | 'worker' | 'nats'
export type Role = 'core' | 'transport' | 'admin' | 'publisher'

export interface SystemOptions {
  /** Folder for all data: an empty one, or that of an earlier system, whose data then goes on. */
  folder: string
  /** Default both. Without a core the caller stands in for the router. */
  parts?: readonly PartName[]
  /** Number of core processes, default 1. Each has its own HTTP port. */
  cores?: number
  settings?: Overrides
  /** NATS users beside those of the parts. */
  natsUsers?: readonly NatsUser[]
  /** Additional variables for the processes of all parts. */
  environment?: Readonly<Record<string, string>>
  /** Additional variables for one part. They win over all others, and the part's children inherit them. */
  partEnvironment?(part: PartName, natsUrl: string): Record<string, string>
  /** Gets each output line of each part: log lines as JSON, and text that a crash writes. */
  onLine?(part: PartName, line: string): void
  /** Gets reports of crashes and restarts. */
  onNotice?(text: string): void
}

const LOOPBACK = '127.0.0.1'
const RESTART_MS = 500

export class LocalSystem {
  /** Parts by name. The names of further cores have a number: core, core-2, core-3. */
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

  /** Resolves when every part is ready. If one fails, stops all others and rejects. */
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
    const keyring = ensureKeyring(config.keyring.file, Date.now())
    const { natsUsers } = options
    const nats = await startNats(config, folder, natsPort, onNotice, undefined, Number.POSITIVE_INFINITY, natsUsers)
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

  /** NATS settings of a part with this role. */
  natsAs(role: Role): Config['nats'] {
    return this.nats.settingsAs(role)
  }

  get natsUrl(): string {
    return this.nats.url
  }

  get httpUrl(): string {
    return `http://${LOOPBACK}:${this.config.http.port}`
  }

  /** One URL for each core. */
  get httpUrls(): string[] {
    return this.httpPorts.map((port) => `http://${LOOPBACK}:${port}`)
  }

  /** The address to which devices connect. */
  get deviceTarget(): { host: string; port: number; path: string } {
    return { host: LOOPBACK, port: this.config.transport.port, path: DEVICE_PATH }
  }

  /** Opens a connection to NATS for the caller. stop() closes it. */
  async brokerAs(role: Role, name = `bench-${role}`): Promise<Broker> {
    const broker = await connect(this.nats.settingsAs(role), { name, mayCreateConsumers: role !== 'transport' })
    this.#brokers.push(broker)
    return broker
  }

  /** The current process ids of a part; empty while it is down. A restarted part has a new id. */
  pids(victim: Victim): number[] {
    const transport = () => this.#parts.get('transport')?.pid ?? 0
    if (victim === 'worker') return transport() > 0 ? childrenOf(transport()).filter(isAlive) : []
    const found = victim === 'nats' ? [this.nats.server?.pid] : this.#partsOf(victim).map((part) => part.pid)
    // A signal to process id 0 would go to our own process group.
    return found.filter((pid): pid is number => pid !== undefined && pid > 0 && isAlive(pid))
  }

  /** Sends the signal to all processes of this kind, or to the one at `index`. Returns their ids. */
  kill(victim: Victim, signal: NodeJS.Signals = 'SIGKILL', index?: number): number[] {
    const pids = this.pids(victim)
    const meant = index === undefined ? pids : pids.slice(index, index + 1)
    for (const pid of meant) process.kill(pid, signal)
    return meant
  }

  /** Stops the parts, then NATS. Further calls wait for the first one. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop()
    return this.#stopping
  }

  async #stop(): Promise<void> {
    // A process that a fault run has frozen cannot stop.
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
      // A fault run crashes parts on purpose, and more often than Child tolerates, so this starts them again.
      onLost: (reason) => {
        onNotice(`${reason}: starting it anew`)
        void this.#startAnew(key, name, environment, options)
      },
    })
    this.#parts.set(key, part)
    await part.start()
  }

  /** Repeats the start until it succeeds, because another fault may hit the part while it starts. */
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

/** The folder for the system's data in the folder of a run. */
export const systemFolder = (runFolder: string) => join(runFolder, 'system')
