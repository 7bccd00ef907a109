/** The system under test of a fault run, with the driver that holds its devices and producers. */
import { join } from 'node:path'
import type { Cleanup } from '../../bench/cleanup.js'
import { Child } from '../../bench/generator/rpc.js'
import { LocalSystem, type PartName, systemFolder } from '../../bench/system/local-system.js'
import { mergeOverrides, type Overrides } from '../../bench/system/settings.js'
import { DEVICE_PATH } from '../../protocol/frame.js'
import { sampleProject } from '../../src/cli/start/sample.js'
import { systemClock } from '../../src/clock.js'
import {
  createApplication,
  createFleet,
  createProject,
  mintToken,
  openTenants,
} from '../../src/core/tenants/projects.js'
import type { Broker } from '../../src/nats/broker.js'
import type { DriverConfig, DriverMethods } from './driver/main.js'
import type { Link } from './fault.js'
import { FinalEvents } from './final-events.js'
import { LineProxy } from './proxy.js'
import type { Member } from './records.js'
import { skewEnvironment, writeSkew } from './skew-file.js'

export interface RigOptions {
  folder: string
  devices: number
  pushesPerSecond: number
  seed: number
  links: readonly Link[]
  cores: number
  settings: Overrides
  cleanup: Cleanup
  say(text: string): void
}

const LOOPBACK = '127.0.0.1'
const TOKEN_SECONDS = 86_400

const startDriver = () => Child.start<DriverMethods>('driver', new URL('./driver/main.js', import.meta.url))

export class Rig {
  private constructor(
    readonly system: LocalSystem,
    private current: Child<DriverMethods>,
    private readonly driverConfig: DriverConfig,
    readonly admin: Broker,
    readonly members: readonly Member[],
    readonly tokens: Readonly<Record<string, string>>,
    readonly driverFolder: string,
    private readonly proxies: ReadonlyMap<Link, LineProxy>,
    private readonly skewFiles: Readonly<Record<PartName, string>>,
    readonly finalEvents: FinalEvents,
  ) {}

  static async start(options: RigOptions): Promise<Rig> {
    const { folder, cleanup, links, cores, settings, devices, say } = options
    let system: LocalSystem | null = null
    const natsPort = () => Number(new URL(system?.natsUrl ?? natsUrlSeen).port)
    let natsUrlSeen = ''
    const targets: Record<Link, () => number> = {
      'device-transport': () => system?.deviceTarget.port ?? 0,
      'app-core': () => system?.config.http.port ?? 0,
      'transport-nats': natsPort,
      'core-nats': natsPort,
    }
    const proxies = new Map<Link, LineProxy>()
    for (const link of links) {
      const proxy = await LineProxy.open(() => ({ host: LOOPBACK, port: targets[link]() }))
      cleanup.defer(() => proxy.close())
      proxies.set(link, proxy)
    }
    const skewFiles = { core: join(folder, 'skew-core'), transport: join(folder, 'skew-transport') }
    for (const file of Object.values(skewFiles)) writeSkew(file, 0)
    system = await LocalSystem.start({
      cores,
      folder: systemFolder(folder),
      settings: mergeOverrides({ transport: { workers: 2 } }, settings),
      onNotice: say,
      onLine: (part, line) => {
        if (process.env.FAULTS_LOG) say(`[${part}] ${line}`)
      },
      partEnvironment: (part, natsUrl) => {
        natsUrlSeen = natsUrl
        const proxy = proxies.get(`${part}-nats`)
        return {
          ...skewEnvironment(skewFiles[part]),
          ...(proxy ? { BOREALIS_NATS_URL: `nats://${LOOPBACK}:${proxy.port}` } : {}),
        }
      },
    })
    cleanup.defer(() => system?.stop())

    const admin = await system.brokerAs('admin', 'faults-admin')
    const tenants = openTenants(admin, systemClock)
    const auth = { ...system.config.auth, accessTokenSeconds: TOKEN_SECONDS }
    const tokens: Record<string, string> = {}
    const both: Member[] = []
    for (const id of [sampleProject, 'other']) {
      const { project } = await createProject(tenants, { id, name: id })
      both.push({ project: id, application: (await createApplication(tenants, project.id)).id })
      tokens[id] = (await mintToken(tenants, system.keyring, auth, id)).token
    }
    const { enrolmentKey } = await createFleet(tenants, { name: 'faults' })
    const members = Array.from({ length: devices }, (_, number) => both[number % both.length] as Member)

    const portOf = (link: Link) => proxies.get(link)?.port ?? targets[link]()
    const config: DriverConfig = {
      ...{ folder, enrolmentKey, members, tokens, ingressProject: sampleProject },
      httpUrls: proxies.has('app-core') ? [`http://${LOOPBACK}:${portOf('app-core')}`] : system.httpUrls,
      deviceUrl: `ws://${LOOPBACK}:${portOf('device-transport')}${DEVICE_PATH}`,
      nats: system.natsAs('publisher'),
      ...{ pushesPerSecond: options.pushesPerSecond, seed: options.seed, isRestart: false },
    }
    const finalEvents = await FinalEvents.follow(admin, system.config.store.split)
    cleanup.defer(() => finalEvents.stop())
    const rig = new Rig(system, startDriver(), config, admin, members, tokens, folder, proxies, skewFiles, finalEvents)
    cleanup.defer(() => rig.driver.stop())
    await rig.driver.call('start', config)
    return rig
  }

  get driver(): Child<DriverMethods> {
    return this.current
  }

  /** Kills the driver with SIGKILL, and starts another one with the same state files and logs. */
  async killDriver(): Promise<void> {
    process.kill(this.current.pid, 'SIGKILL')
    await this.current.stop()
    this.current = startDriver()
    await this.current.call('start', { ...this.driverConfig, isRestart: true })
  }

  proxy(link: Link): LineProxy {
    const proxy = this.proxies.get(link)
    if (!proxy) throw new RangeError(`the fault does not list ${link} in its links`)
    return proxy
  }

  /** Sets the clock of a part and of its child processes ahead by this time. */
  skew(part: PartName, aheadMs: number): void {
    writeSkew(this.skewFiles[part], aheadMs)
  }
}
