/**
 * One device of the year: the real client on a simulated host, disk and network, enrolled and renewed over the real HTTP
 * API. What it received and what its app saw is written down outside, as an oracle that survives every crash.
 */
import { sleep } from '../../src/clock.js'
import { BorealisClient, type ClientEvents } from '../../src/device/client.js'
import { enrol, type renew } from '../../src/device/enrol.js'
import { DeviceError } from '../../src/device/errors.js'
import type { Identity } from '../../src/device/state/state.js'
import { SimDisk } from '../sim/disk.js'
import { Host } from '../sim/host.js'
import type { Link } from '../sim/link.js'
import type { WorldParts } from '../sim/parts.js'
import { type Balancer, PUBLIC_URL } from './http.js'

type Notification = ClientEvents['notification'][0]

export interface DeviceWorld extends WorldParts {
  readonly balancer: Balancer
  /** How devices renew their tokens. */
  renew: typeof renew
  /** The device does not come back by itself. */
  gaveUp(device: YearDevice, why: string): void
  /** What no app should see. */
  wrong(check: 'isolation' | 'duplicates', what: string): void
}

/** An app on the device. */
export interface App {
  readonly project: string
  readonly application: string
  /** Empty: not registered. */
  registrationId: string
  number: number
  /** Confirmed, with the time. */
  readonly topics: Map<string, number>
  registeredAtMs: number
  /** Numbers that ended, with the time when the device or the operator asked for it. */
  readonly ended: Map<number, number>
}

/** A time in which the device was live. */
export interface Session {
  sinceMs: number
  /** Of virtual time that ran: nothing happens in a night that is skipped. */
  sinceAwakeMs: number
  /** Infinity: it still is. */
  untilMs: number
  untilAwakeMs: number
}

export interface Gap {
  reason: string
  count: number
  atMs: number
}

/** Of the state file: beyond it, the state is written anew. */
const CHANGES_MAX = 64
const RETRY_MS = 5_000
const URL = 'ws://push.sim/v1/device'

export class YearDevice {
  name = ''
  readonly received = new Set<bigint>()
  readonly seen = new Set<bigint>()
  readonly gaps: Gap[] = []
  readonly apps: App[]
  renewals = 0
  revokedAtMs = Number.POSITIVE_INFINITY
  /** More was sent to it while it was away than its queue holds, on purpose. */
  isOverflowed = false
  /** It comes back on this day. */
  awayUntilDay = 0
  /** The present or the latest one. */
  session: Session = { sinceMs: 0, sinceAwakeMs: 0, untilMs: 0, untilAwakeMs: 0 }
  tokenExpiresAtMs = 0
  link: Link | null = null
  private host: Host | null = null
  private client: BorealisClient | null = null
  private disk: SimDisk | null = null
  private incarnation = 0
  private closing: Promise<void> | null = null
  private isLeaving = false

  constructor(
    readonly index: number,
    apps: readonly { project: string; application: string }[],
    readonly topicsWanted: readonly string[],
    /** How wrong its clock is, always. */
    private readonly skewMs: number,
    private readonly world: DeviceWorld,
  ) {
    const blank = () => ({ registrationId: '', number: 0, registeredAtMs: 0 })
    this.apps = apps.map((app) => ({ ...app, ...blank(), topics: new Map(), ended: new Map() }))
  }

  get label(): string {
    return `device${this.index}`
  }

  get isUp(): boolean {
    return this.client !== null && !this.isLeaving
  }

  get isLive(): boolean {
    return this.client?.state === 'live'
  }

  get isRevoked(): boolean {
    return this.revokedAtMs < Number.POSITIVE_INFINITY
  }

  get isSettled(): boolean {
    return this.isLive && this.apps.every(({ registrationId }) => registrationId !== '')
  }

  /** Its app has every registration and topic that it wants. */
  get isEnlisted(): boolean {
    const isDone = ({ registrationId, topics }: App) =>
      registrationId !== '' && topics.size === this.topicsWanted.length
    return this.apps.every(isDone)
  }

  /** Becomes one of the fleet, however often that takes. Rejects with DeviceError `enrol_refused`. */
  async enrol(enrolmentKey: string): Promise<void> {
    const { clock, random, balancer } = this.world
    const host = this.newHost()
    for (;;) {
      try {
        const fetch = balancer.fetchOf(host.clock, this.address)
        const asked = enrol({ url: PUBLIC_URL, enrolmentKey, name: this.label, random, fetch })
        this.adopt(await asked)
        return
      } catch (error) {
        if (!(error instanceof DeviceError)) throw error
        const isLimited = error.serverCode === 'rate_limited'
        if (error.code === 'enrol_refused' && !isLimited) throw error
        await sleep(clock, Math.max(error.retryAfterMs, RETRY_MS))
      }
    }
  }

  start(): void {
    if (this.client || !this.disk) return
    const { random, net, plan, balancer } = this.world
    const host = this.newHost()
    this.host = host
    this.incarnation++
    const dial = net.dialOf(host, this.address, (link) => {
      this.link = link
    })
    const store = this.disk.open(host)
    const fetch = balancer.fetchOf(host.clock, this.address)
    const client = new BorealisClient({
      store,
      url: URL,
      settings: plan.device,
      clock: host.clock,
      random,
      dial,
      renew: (options) => this.world.renew({ ...options, fetch }),
    })
    this.client = client
    this.listen(client)
    client.connect()
    void this.enlist(client, host)
  }

  /** In order. Resolves when it has left. */
  stop(): Promise<void> {
    const { client } = this
    if (!client) return Promise.resolve()
    this.isLeaving = true
    this.closing ??= this.leave(client)
    return this.closing
  }

  crash(): void {
    if (!this.client || this.isLeaving) return
    this.host?.crash()
    this.disk?.crash()
    this.link?.deviceDied(false)
    this.client = null
    this.host = null
    this.noLongerLive()
  }

  /** The app is removed from the device and installed again: another registration. */
  async reinstall(app: App): Promise<void> {
    const { client, host } = this
    if (!client || !host) return
    const { application, number } = app
    app.ended.set(number, this.world.clock.now())
    app.registrationId = ''
    app.topics.clear()
    await this.insist(client, host, async () => {
      await client.unregister({ application })
      return true
    })
    // Its project may be suspended: then it takes until that is over.
    void this.enlist(client, host)
  }

  private async leave(client: BorealisClient): Promise<void> {
    await client.close()
    this.host?.crash()
    this.client = null
    this.host = null
    this.closing = null
    this.isLeaving = false
    this.noLongerLive()
  }

  private get address(): string {
    return `10.${(this.index >> 16) & 255}.${(this.index >> 8) & 255}.${this.index & 255}`
  }

  private newHost(): Host {
    const host = new Host(this.world.clock)
    host.skewMs = this.skewMs
    return host
  }

  private adopt(identity: Identity): void {
    const { random, clock, diskFaults } = this.world
    this.name = identity.deviceId
    this.tokenExpiresAtMs = identity.expiresAtMs
    const now = () => clock.now()
    this.disk = new SimDisk(
      random,
      now,
      diskFaults,
      { kind: 'identity', identity },
      (change) => {
        if (change.kind === 'message') this.received.add(change.message.id)
        // Of an app that is not there any more.
        if (change.kind === 'seen') this.received.add(change.id)
      },
      CHANGES_MAX,
    )
  }

  private listen(client: BorealisClient): void {
    const { clock, trace } = this.world
    const { incarnation } = this
    client.on('notification', (notification) => this.see(notification, incarnation))
    client.on('expired', (notification) => this.see(notification, incarnation))
    client.on('gap', (gap) => this.gaps.push({ ...gap, atMs: clock.now() }))
    client.on('ready', () => {
      const [untilMs, untilAwakeMs] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY]
      this.session = { sinceMs: clock.now(), sinceAwakeMs: clock.awakeMs(), untilMs, untilAwakeMs }
    })
    client.on('renewed', ({ expiresAtMs }) => {
      this.renewals++
      this.tokenExpiresAtMs = expiresAtMs
    })
    client.on('registration', (registration) => {
      const app = this.apps.find(({ application }) => application === registration.application)
      if (app && app.registrationId !== '') this.registered(app, registration)
    })
    client.on('closed', ({ name, reconnectInMs }) => {
      trace.note(this.label, `closed ${name}`)
      if (this.client !== client) return
      this.noLongerLive()
      if (reconnectInMs === null && !this.isLeaving) this.world.gaveUp(this, name)
    })
    client.on('error', (error) => {
      trace.note(this.label, `error ${error.code} ${error.message}`)
      if (error.code === 'bad_server_bytes') this.world.fail('internal', `${this.label}: ${error.message}`)
    })
  }

  /** The text of a message says for whom it is: `<n> <device> <application>` or `<n> <topic or app> <project>`. */
  private see({ id, message, possibleDuplicate }: Notification, incarnation: number): void {
    const number = BigInt(id)
    const [, whom = '', where = ''] = message.split(' ')
    const isOwn = this.apps.some(
      (app) =>
        (whom === this.name && where === app.application) ||
        (where === app.project && (whom === app.application || this.topicsWanted.includes(whom))),
    )
    if (!isOwn) this.world.wrong('isolation', `${this.label} saw "${message}"`)
    const isRepeated = this.seen.has(number) && (!possibleDuplicate || incarnation === 1)
    if (isRepeated) this.world.wrong('duplicates', `${this.label} saw "${message}" twice`)
    this.seen.add(number)
  }

  private noLongerLive(): void {
    const { clock } = this.world
    if (this.session.untilMs === Number.POSITIVE_INFINITY) {
      this.session = { ...this.session, untilMs: clock.now(), untilAwakeMs: clock.awakeMs() }
    }
  }

  private async enlist(client: BorealisClient, host: Host): Promise<void> {
    for (const app of this.apps) {
      const { application } = app
      const registration = await this.insist(client, host, () => client.register(application))
      if (!registration) return
      this.registered(app, registration)
      for (const topic of this.topicsWanted) {
        if (app.topics.has(topic)) continue
        const done = await this.insist(client, host, async () => {
          await client.subscribe(topic, { application })
          return true
        })
        if (!done) return
        app.topics.set(topic, this.world.clock.now())
      }
    }
  }

  private registered(app: App, { number, registrationId }: { number: number; registrationId: string }): void {
    if (app.registrationId === '') app.registeredAtMs = this.world.clock.now()
    app.number = number
    app.registrationId = registrationId
  }

  private async insist<T>(client: BorealisClient, host: Host, ask: () => Promise<T>): Promise<T | null> {
    while (this.client === client && !this.isLeaving) {
      try {
        return await ask()
      } catch (error) {
        if (error instanceof DeviceError && error.fatal) return null
        this.world.trace.note(this.label, `is refused: ${String(error)}`)
        await sleep(host.clock, RETRY_MS)
      }
    }
    return null
  }
}
