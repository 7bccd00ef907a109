/** The driver: devices and producers in a process of their own, with logs that survive it. RunningParts by rig.ts. */
import { join } from 'node:path'
import { serve } from '../../../bench/generator/rpc.js'
import { connect } from '../../../src/nats/connect.js'
import type { NatsSettings } from '../../../src/nats/settings.js'
import { between, seeded } from '../../sim/random.js'
import { AppendLog, readLog } from '../log.js'
import { type AppRecord, type AttemptRecord, logFiles, type Member, type WireRecord } from '../records.js'
import { FaultDevice } from './device.js'
import { Load } from './load.js'
import { Probes, type Recovery } from './probes.js'
import { Sender } from './sender.js'

export interface DriverConfig {
  folder: string
  /** One for each core; the first one enrols. */
  httpUrls: string[]
  deviceUrl: string
  enrolmentKey: string
  nats: NatsSettings
  /** By number of the device. */
  members: Member[]
  tokens: Record<string, string>
  ingressProject: string
  pushesPerSecond: number
  seed: number
  /** It takes the place of one that was killed. */
  loading: boolean
}

/** Who does what, by share of the devices. */
const PROBES = 6
const ORDERED_SHARE = 0.15
const FLIGHTY_SHARE = 0.25
const TOPIC = 'news'
const SETUP_AT_ONCE = 8

export type Touch = 'cut' | 'leaveHalfOpen' | 'clog' | 'read' | 'hangUp'

class Driver {
  readonly devices: FaultDevice[]
  readonly sender: Sender
  readonly load: Load
  readonly probes: Probes
  readonly #random
  /** Who is there unless a fault says otherwise. */
  readonly #steady: readonly number[]
  #away: readonly number[] = []

  private constructor(
    readonly config: DriverConfig,
    publisher: Awaited<ReturnType<typeof connect>>,
  ) {
    const { folder, members, httpUrls, tokens, ingressProject, seed, enrolmentKey } = config
    const at = (name: keyof typeof logFiles) => join(folder, logFiles[name])
    const firstAttempt = readLog<AttemptRecord>(at('attempts')).length
    const wire = new AppendLog<WireRecord>(at('wire'))
    const app = new AppendLog<AppRecord>(at('app'))
    this.#random = seeded(seed)
    this.sender = new Sender({ httpUrls, tokens, log: new AppendLog(at('attempts')), publisher, firstAttempt })
    this.devices = members.map(
      (member, number) =>
        new FaultDevice({
          ...{ number, folder, member, topics: [TOPIC], wire, app, url: config.deviceUrl },
          enrol: { url: httpUrls[0] ?? '', enrolmentKey },
          onGiven: (_device, attempt) => this.probes.given(attempt),
        }),
    )
    const numbers = members.map((_, number) => number).slice(PROBES)
    const ordered = numbers.splice(0, Math.ceil(members.length * ORDERED_SHARE))
    const flighty = numbers.splice(0, Math.ceil(members.length * FLIGHTY_SHARE))
    this.#steady = numbers
    const projects = members.map(({ project }) => project)
    const applications = Object.fromEntries(members.map(({ project, application }) => [project, application]))
    const crowd = { devices: this.devices, projects, applications, topic: TOPIC, ingressProject }
    this.load = new Load(
      { ...crowd, ordered, flighty, steady: numbers },
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
    // Those of an earlier driver had begun.
    if (config.loading) driver.load.start()
    return driver
  }

  /** Some devices by chance, never the probes: a fault at the device's end is not what they look for. */
  chosen(share: number): FaultDevice[] {
    const others = this.devices.slice(PROBES)
    const count = Math.max(1, Math.round(others.length * share))
    const from = between(this.#random, [0, others.length - count])
    return others.slice(from, from + count)
  }

  async overflow(share: number, pushes: number): Promise<number> {
    this.#away = this.#steady.slice(0, Math.max(1, Math.round(this.devices.length * share)))
    await each(this.#away, (number) => this.devices[number]?.disconnect())
    await each(this.#away, async (number) => {
      for (let i = 0; i < pushes; i++) await this.load.pushTo(number)
    })
    return this.#away.length
  }

  async comeBack(): Promise<void> {
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
let touched: FaultDevice[] = []

function started(): Driver {
  if (!driver) throw new Error('the driver was not started')
  return driver
}

const methods = {
  start: async (config: DriverConfig): Promise<void> => {
    driver = await Driver.start(config)
  },
  load: (): void => started().load.start(),
  quiet: (): Promise<void> => started().load.stop(),
  recovered: ({ fromMs, timeoutMs }: { fromMs: number; timeoutMs: number }): Promise<Recovery> =>
    started().probes.recovered(fromMs, timeoutMs),
  /** Does it to a share of the devices; 0: to those of the last time. */
  touch: ({ touch, share }: { touch: Touch; share: number }): void => {
    if (share > 0) touched = started().chosen(share)
    for (const device of touched) device.line[touch]()
  },
  /** Takes a share of the devices away and sends each so many pushes. Gives how many devices. */
  overflow: ({ share, pushes }: { share: number; pushes: number }): Promise<number> =>
    started().overflow(share, pushes),
  comeBack: (): Promise<void> => started().comeBack(),
  /** Every device reconnects, so that each worker has its share again. */
  spread: (): void => {
    for (const { line } of started().devices) line.cut()
  },
  /** By number of the device. */
  deviceIds: (): string[] => started().devices.map(({ deviceId }) => deviceId),
  /** Every device ends and comes back from its state file, until each has been caught up. */
  restartDevices: (): Promise<void> => started().restartDevices(),
}

export type DriverMethods = typeof methods

serve(methods)
