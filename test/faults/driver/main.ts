/**
 * The driver of a fault run: a process with all devices and producers, whose logs survive its kill. rig.ts starts it and
 * calls its methods.
 */
import { join } from 'node:path'
import { serve } from '../../../bench/generator/rpc.js'
import { connect } from '../../../src/nats/connect.js'
import type { NatsSettings } from '../../../src/nats/settings.js'
import { between, seeded } from '../../sim/random.js'
import { AppendLog, readLog } from '../log.js'
import {
  type AppRecord,
  type AttemptRecord,
  logFiles,
  type Member,
  type PresenceRecord,
  type WireRecord,
} from '../records.js'
import { FaultDevice } from './device.js'
import { type Flood, type FloodCounts, Load } from './load.js'
import { Probes, type Recovery } from './probes.js'
import { Sender } from './sender.js'

export interface DriverConfig {
  folder: string
  /** One URL for each core; devices enrol at the first. */
  httpUrls: string[]
  deviceUrl: string
  enrolmentKey: string
  nats: NatsSettings
  /** The project and application of each device. */
  members: Member[]
  tokens: Record<string, string>
  ingressProject: string
  pushesPerSecond: number
  seed: number
  /** True if the driver replaces one that was killed under load. */
  isRestart: boolean
}

/** The first devices are probes; the rest is divided by these shares. */
const PROBES = 6
const ORDERED_SHARE = 0.15
const INTERMITTENT_SHARE = 0.25
const TOPIC = 'news'
const SETUP_AT_ONCE = 8

export type Disturbance = 'cut' | 'leaveHalfOpen' | 'stopReading' | 'resumeReading' | 'closeHalfOpen'

class Driver {
  readonly devices: FaultDevice[]
  readonly sender: Sender
  readonly load: Load
  readonly probes: Probes
  readonly #random
  /** The devices that stay connected unless a fault disconnects them. */
  readonly #steady: readonly number[]
  #away: readonly number[] = []
  #floodEnd = new AbortController()
  #flooding: Promise<void> = Promise.resolve()
  floodCounts: FloodCounts = { sent: 0, refused: 0 }

  private constructor(
    readonly config: DriverConfig,
    publisher: Awaited<ReturnType<typeof connect>>,
  ) {
    const { folder, members, httpUrls, tokens, ingressProject, seed, enrolmentKey } = config
    const at = (name: keyof typeof logFiles) => join(folder, logFiles[name])
    const firstAttempt = readLog<AttemptRecord>(at('attempts')).length
    const wire = new AppendLog<WireRecord>(at('wire'))
    const app = new AppendLog<AppRecord>(at('app'))
    const presence = new AppendLog<PresenceRecord>(at('presence'))
    this.#random = seeded(seed)
    this.sender = new Sender({ httpUrls, tokens, log: new AppendLog(at('attempts')), publisher, firstAttempt })
    this.devices = members.map(
      (member, number) =>
        new FaultDevice({
          ...{ number, folder, member, topics: [TOPIC], wire, app, presence, url: config.deviceUrl },
          enrol: { url: httpUrls[0] ?? '', enrolmentKey },
          onShown: (_device, attempt) => this.probes.recordShown(attempt),
        }),
    )
    const numbers = members.map((_, number) => number).slice(PROBES)
    const ordered = numbers.splice(0, Math.ceil(members.length * ORDERED_SHARE))
    const intermittent = numbers.splice(0, Math.ceil(members.length * INTERMITTENT_SHARE))
    this.#steady = numbers
    const projects = members.map(({ project }) => project)
    const applications = Object.fromEntries(members.map(({ project, application }) => [project, application]))
    const crowd = { devices: this.devices, projects, applications, topic: TOPIC, ingressProject }
    this.load = new Load(
      { ...crowd, ordered, intermittent, steady: numbers },
      this.sender,
      this.#random,
      config.pushesPerSecond,
    )
    this.probes = new Probes(new Map(this.devices.slice(0, PROBES).entries()), projects, this.sender)
  }

  static async start(config: DriverConfig): Promise<Driver> {
    const driver = new Driver(config, await connect(config.nats, { name: 'faults-publisher' }))
    await each(driver.devices, async (device) => {
      await device.connect()
      await device.register()
    })
    if (config.isRestart) driver.load.start()
    return driver
  }

  /** Picks random devices, but no probes, which measure the recovery of the service. */
  pickDevices(share: number): FaultDevice[] {
    const others = this.devices.slice(PROBES)
    const count = Math.max(1, Math.round(others.length * share))
    const from = between(this.#random, [0, others.length - count])
    return others.slice(from, from + count)
  }

  async overflowQueues(share: number, pushes: number): Promise<number> {
    this.#away = this.#steady.slice(0, Math.max(1, Math.round(this.devices.length * share)))
    await each(this.#away, (number) => this.devices[number]?.disconnect())
    await each(this.#away, async (number) => {
      for (let i = 0; i < pushes; i++) await this.load.pushTo(number)
    })
    return this.#away.length
  }

  /** Sends a flood to steady devices or, with a share above 0, to that share of the devices after disconnecting them. */
  async flood(flood: Flood, share: number): Promise<void> {
    this.#away = share > 0 ? this.#steady.slice(0, Math.max(1, Math.round(this.devices.length * share))) : []
    await each(this.#away, (number) => this.devices[number]?.disconnect())
    const devices = share > 0 ? this.#away : this.#steady
    this.#floodEnd = new AbortController()
    this.floodCounts = { sent: 0, refused: 0 }
    this.#flooding = this.load.flood(flood, devices, this.floodCounts, this.#floodEnd.signal)
  }

  async endFlood(): Promise<void> {
    this.#floodEnd.abort()
    await this.#flooding
    await this.reconnectAbsent()
  }

  async reconnectAbsent(): Promise<void> {
    await each(this.#away, (number) => this.devices[number]?.connect())
  }

  async restartDevices(): Promise<void> {
    await each(this.devices, (device) => device.disconnect())
    await each(this.devices, (device) => device.connect())
  }
}

async function each<T>(items: readonly T[], work: (item: T) => Promise<void> | undefined): Promise<void> {
  let next = 0
  const lane = async () => {
    for (let item = items[next++]; item !== undefined; item = items[next++]) await work(item)
  }
  await Promise.all(Array.from({ length: SETUP_AT_ONCE }, lane))
}

let driver: Driver | null = null
let disturbed: FaultDevice[] = []

function started(): Driver {
  if (!driver) throw new Error('the driver was not started')
  return driver
}

const methods = {
  start: async (config: DriverConfig): Promise<void> => {
    driver = await Driver.start(config)
  },
  startLoad: (): void => started().load.start(),
  stopLoad: (): Promise<void> => started().load.stop(),
  measureRecovery: ({ fromMs, timeoutMs }: { fromMs: number; timeoutMs: number }): Promise<Recovery> =>
    started().probes.measureRecovery(fromMs, timeoutMs),
  /** Disturbs the connections of a share of the devices; with share 0 those of the last call. */
  disturb: ({ disturbance, share }: { disturbance: Disturbance; share: number }): void => {
    if (share > 0) disturbed = started().pickDevices(share)
    for (const device of disturbed) device.line[disturbance]()
  },
  /** Sets the clocks of a share of the devices wrong; with share 0 those of the last call. */
  skewClocks: ({ share, aheadMs }: { share: number; aheadMs: number }): void => {
    if (share > 0) disturbed = started().pickDevices(share)
    for (const device of disturbed) device.skewMs = aheadMs
  },
  /** Disconnects a share of the devices, and sends each of them so many pushes. Gives the number of these devices. */
  overflowQueues: ({ share, pushes }: { share: number; pushes: number }): Promise<number> =>
    started().overflowQueues(share, pushes),
  reconnectAbsent: (): Promise<void> => started().reconnectAbsent(),
  flood: ({ flood, share }: { flood: Flood; share: number }): Promise<void> => started().flood(flood, share),
  floodCounts: (): FloodCounts => started().floodCounts,
  /** Ends the flood, and connects the devices that were disconnected for it. */
  endFlood: (): Promise<void> => started().endFlood(),
  /** Makes every device reconnect, so that each worker has its share of them. */
  spread: (): void => {
    for (const { line } of started().devices) line.cut()
  },
  /** The ids of the devices, indexed by number. */
  deviceIds: (): string[] => started().devices.map(({ deviceId }) => deviceId),
  /** Restarts every device from its state file, and resolves when each has caught up. */
  restartDevices: (): Promise<void> => started().restartDevices(),
}

export type DriverMethods = typeof methods

serve(methods)
