/** The installation of the year: cores, workers, a fleet, projects with their app servers, and an operator, on one virtual clock. */
import { EXPIRY_STREAM } from '../../protocol/subjects.js'
import { sleep } from '../../src/clock.js'
import { Administration } from '../../src/core/tenants/administration.js'
import { renew } from '../../src/device/enrol.js'
import type { Logger } from '../../src/observe/log.js'
import { markStoreFormat } from '../../src/store/format.js'
import { SimBroker } from '../sim/broker.js'
import { VirtualClock } from '../sim/clock.js'
import { SimNet } from '../sim/net.js'
import type { Invariant } from '../sim/parts.js'
import type { Plan } from '../sim/plan.js'
import { between, type Random, seeded } from '../sim/random.js'
import { strictLogger } from '../sim/strict-logger.js'
import { Trace } from '../sim/trace.js'
import { WorkerProcess } from '../sim/worker-process.js'
import type { CheckName, Findings } from './checks.js'
import { YearCore } from './core.js'
import { type DeviceWorld, YearDevice } from './device.js'
import { Balancer } from './http.js'
import { Keys } from './keys.js'
import { Ledger } from './ledger.js'
import type { WorkCount } from './real-work.js'
import { AppServer, Operator, type ServiceAccount } from './senders.js'
import { CORES, coreSettings, planFor, SPLIT, storeSettings, WORKERS } from './settings.js'

export const DAY_MS = 86_400_000
const HOUR_MS = 3_600_000
/** The first day of the year, at midnight. */
export const YEAR_START_MS = Date.UTC(2026, 0, 1)
/** The fleet enrols in the twelve months before. */
export const ENROLMENTS = 12
export const ENROLMENT_DAYS = 30
export const PROJECTS = ['north', 'south', 'east', 'west'] as const
export const TOPICS = ['news', 'alerts'] as const
const MORNING_MS = 9 * HOUR_MS
const NOBODY_MS = 10 * 60_000
const UP_MS_MAX = 120_000
/** So long before and after an act, messages with a short life may end. */
const CALM_MS = 60_000
const QUIET_FAULTS = { silentMs: 6_000, reconnectMs: [50, 800] } as const

export class YearWorld implements DeviceWorld {
  readonly clock: VirtualClock
  readonly random: Random
  readonly plan: Plan
  readonly broker: SimBroker
  readonly net: SimNet
  readonly diskFaults = { failWrite: 0 }
  readonly isTight = true
  readonly skews = new Map<string, number>()
  readonly trace: Trace
  readonly keys: Keys
  readonly cores: YearCore[]
  readonly workers: WorkerProcess[]
  readonly balancer: Balancer
  readonly ledger: Ledger
  readonly devices: YearDevice[] = []
  readonly apps = new Map<string, AppServer>()
  readonly applications = new Map<string, string>()
  readonly settings = coreSettings()
  renew = renew
  operator: Operator
  fleet = ''
  enrolmentKey = ''
  /** Projects that may not send. */
  readonly suspended = new Set<string>()
  /** When acts of the calendar took place. */
  readonly disturbances: { fromMs: number; untilMs: number }[] = []
  rotations = 0
  /** Devices whose end is meant, with its reason. */
  readonly goodbyes = new Map<YearDevice, string>()
  private readonly byName = new Map<string, YearDevice>()

  constructor(
    readonly size: number,
    seed: number,
    readonly findings: Findings,
    readonly work: WorkCount,
    isTraced: boolean,
  ) {
    this.clock = new VirtualClock(YEAR_START_MS - ENROLMENTS * ENROLMENT_DAYS * DAY_MS, work)
    const { clock } = this
    this.random = seeded(seed)
    const { random } = this
    this.plan = planFor(size, this.settings.core)
    this.trace = new Trace(() => clock.now() - YEAR_START_MS, isTraced)
    this.broker = new SimBroker({ random, clock, faults: QUIET_FAULTS, store: storeSettings(size), keepsEver: false })
    const { backpressureBytesMax } = this.plan.transport
    this.net = new SimNet({ random, now: () => clock.now(), latencyMs: [1, 5], backpressureBytesMax })
    this.keys = new Keys(clock.now())
    const keyring = () => this.keys.read()
    const coreSetup = { settings: this.settings, keyring, work }
    this.cores = Array.from({ length: CORES }, (_, i) => new YearCore(`core${i}`, this, coreSetup))
    const workerSetup = { keys: () => keyring().transportKeys(), connectionsMax: size + 1_000 }
    this.workers = Array.from({ length: WORKERS }, (_, i) => new WorkerProcess(i, this, workerSetup))
    this.balancer = new Balancer(clock, random, this.cores)
    const deviceOf = (name: string) => this.byName.get(name)
    const wrong = (check: CheckName, what: string) => this.wrong(check, what)
    this.ledger = new Ledger(clock, this.broker.server, SPLIT, wrong, deviceOf)
    this.operator = new Operator('', this)
  }

  get day(): number {
    return Math.floor((this.clock.now() - YEAR_START_MS) / DAY_MS)
  }

  /** Whether an act was under way at that time or until shortly before. */
  isDisturbed(atMs: number): boolean {
    return this.disturbances.some(({ fromMs, untilMs }) => atMs >= fromMs - CALM_MS && atMs <= untilMs + CALM_MS)
  }

  // ---- what the parts tell ----------------------------------------------------------------------

  loggerOf(who: string): Logger {
    return strictLogger(this, who)
  }

  fail(invariant: Invariant, detail: string): void {
    this.wrong('internal', `${invariant}: ${detail}`)
  }

  wrong(check: CheckName, what: string): void {
    this.trace.note('WRONG', `${check}: ${what}`)
    this.findings.wrong(check, `day ${this.day}: ${what}`)
  }

  gaveUp(device: YearDevice, why: string): void {
    if (this.goodbyes.get(device) !== why) this.wrong('hands', `${device.label} gave up: ${why}`)
  }

  refused(what: string, code: string): void {
    this.wrong('refusals', `${what}: ${code}`)
  }

  // ---- how it begins ----------------------------------------------------------------------------

  /** Processes, projects and the first credential, as `borealis admin` makes it. */
  async begin(): Promise<void> {
    const { clock } = this
    const admin = this.broker.brokerFor('admin')
    await clock.advanceUntil(markStoreFormat(admin, '0.2.0'))
    const administration = new Administration(admin, admin.clock, this.settings.auth)
    const local = { name: 'cli:year', role: 'operator', projects: '*' } as const
    const made = administration.createCredential(local, { name: 'year', role: 'operator' })
    const { secret } = await clock.advanceUntil(made)
    await admin.close()
    this.operator = new Operator(secret, this)
    for (const process of [...this.cores, ...this.workers]) process.start()
    await this.until(() => [...this.cores, ...this.workers].every(({ isUp }) => isUp), 'every process is up')
    await clock.advanceUntil(this.createTenants())
  }

  /** The devices of one month before the year enrol, connect and register. */
  async enrolMonth(month: number): Promise<void> {
    const from = Math.floor((this.size * month) / ENROLMENTS)
    const to = Math.floor((this.size * (month + 1)) / ENROLMENTS)
    const fresh = Array.from({ length: to - from }, (_, i) => this.makeDevice(from + i))
    await this.clock.advanceUntil(Promise.all(fresh.map((device) => this.enrol(device))))
    await this.until(() => fresh.every(({ isEnlisted }) => isEnlisted), 'the devices of a month are registered')
  }

  async enrol(device: YearDevice): Promise<void> {
    await sleep(this.clock, between(this.random, [0, 20_000]))
    await device.enrol(this.enrolmentKey)
    this.byName.set(device.name, device)
    device.start()
  }

  makeDevice(index: number): YearDevice {
    const { random } = this
    const projects = PROJECTS.filter((_, i) => i === index % PROJECTS.length || random() < 0.25)
    const apps = projects.map((project) => ({ project, application: this.applications.get(project) ?? '' }))
    const topics = TOPICS.filter(() => random() < 0.5)
    // Clocks of devices are right, a little wrong, or far off.
    const skewMs = random() < 0.6 ? 0 : between(random, random() < 0.7 ? [-60_000, 60_000] : [-5 * DAY_MS, 5 * DAY_MS])
    const device = new YearDevice(index, apps, topics, skewMs, this)
    this.devices.push(device)
    return device
  }

  /** Nothing waits to be expired any more. */
  get isSwept(): boolean {
    return this.broker.server.stream(EXPIRY_STREAM).state().messages === 0
  }

  appOf(project: string): AppServer {
    const app = this.apps.get(project)
    if (!app) throw new TypeError(`there is no project ${project}`)
    return app
  }

  // ---- how time passes --------------------------------------------------------------------------

  /** The installation stands still until the morning of a day: see year.ts. */
  sleepUntil(day: number, beforeMs: number): void {
    const { clock, broker } = this
    const atMs = YEAR_START_MS + day * DAY_MS + MORNING_MS - beforeMs
    if (atMs > clock.now()) clock.skip(atMs - clock.now())
    for (const stream of broker.server.streams) stream.expire(clock.now())
  }

  /** Runs until `done` says so; where that does not come, it is a finding. */
  async until(done: () => boolean, what: string, msMax = UP_MS_MAX): Promise<void> {
    if (await this.clock.until(done, msMax)) return
    this.wrong('hands', `waited in vain until ${what}`)
  }

  /** For acts that run inside the clock. */
  async becomes(done: () => boolean, what: string, msMax = UP_MS_MAX): Promise<void> {
    const untilMs = this.clock.now() + msMax
    while (!done()) {
      if (this.clock.now() > untilMs) {
        this.wrong('hands', `waited in vain until ${what}`)
        return
      }
      await sleep(this.clock, 200)
    }
  }

  /** Lets what is under way come to its end. */
  async settle(): Promise<void> {
    await this.until(() => this.balancer.waiting === 0, 'every request is answered', NOBODY_MS)
  }

  private async createTenants(): Promise<void> {
    for (const id of PROJECTS) {
      const project = await this.operator.ask('POST', '/projects', { id, name: id, alg: 'ES256' })
      const settings = project.settings as { push_notification_system: ServiceAccount }
      this.apps.set(id, new AppServer(id, settings.push_notification_system, this))
      const application = await this.operator.ask('POST', `/projects/${id}/applications`, { name: id })
      this.applications.set(id, String(application.applicationId))
    }
    const fleet = await this.operator.ask('POST', '/fleets', { name: 'all' })
    this.fleet = String(fleet.fleetId)
    this.enrolmentKey = String(fleet.enrolmentKey)
  }
}
