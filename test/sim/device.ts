/**
 * One simulated device: the real device library on a simulated host, disk and network, with an app behind it. The lists
 * of notifications, gaps and memberships stand outside the simulated machine, so that they survive its crashes and the
 * checks can rely on them.
 */
import { deviceKey } from '../../protocol/subjects.js'
import { sleep } from '../../src/clock.js'
import { BorealisClient, type ClientEvents } from '../../src/device/client.js'
import type { Registration } from '../../src/device/state/state.js'
import { decodeDeviceRecord, NO_DEVICE_RECORD } from '../../src/store/devices.js'
import { SimDisk } from './disk.js'
import { Host } from './host.js'
import { applicationOf, tokenOf } from './identities.js'
import type { Link } from './link.js'
import type { WorldParts } from './parts.js'
import { between } from './random.js'

type Notification = ClientEvents['notification'][0]

export interface Seen {
  notification: Notification
  /** Counts the starts of the device. */
  incarnation: number
  atMs: number
  /** The client reported it as `expired` instead of handing it over. */
  expired: boolean
}

/** A registration that app servers can address. */
export interface KnownRegistration {
  device: string
  project: string
  application: string
  /** Its number on the device. */
  registration: number
  registrationId: string
}

/** The device belongs to the group from the confirmation at `fromMs` to its own request to leave at `untilMs`. */
export interface Membership {
  kind: 'app' | 'topic'
  project: string
  name: string
  fromMs: number
  untilMs: number
}

const RETRY_MS = 700
const URL = 'ws://push.sim/v1/device'

export class SimDevice {
  readonly seen: Seen[] = []
  /** The time at which each message first reached the device, by message id. */
  readonly receivedAtMs = new Map<bigint, number>()
  readonly gaps: { count: number; reason: string; atMs: number }[] = []
  readonly registrations: KnownRegistration[] = []
  readonly memberships: Membership[] = []
  /** All topics that the device requested; a message may come even if the confirmation was lost. */
  readonly requestedTopics = new Set<string>()
  incarnation = 0
  crashes = 0
  host: Host | null = null
  link: Link | null = null
  private client: BorealisClient | null = null
  private closing = false
  private readonly disk: SimDisk

  constructor(
    readonly name: string,
    private readonly index: number,
    readonly projects: readonly string[],
    readonly topics: Set<string>,
    private readonly handlerMs: readonly [number, number],
    private readonly world: WorldParts,
  ) {
    const identity = { deviceId: name, token: tokenOf(name), expiresAtMs: 0, url: URL }
    const { random, clock, diskFaults } = world
    this.disk = new SimDisk(
      random,
      () => clock.now(),
      diskFaults,
      { kind: 'identity', identity },
      (change) => {
        if (change.kind !== 'message' || this.receivedAtMs.has(change.message.id)) return
        this.receivedAtMs.set(change.message.id, clock.now())
        const { group } = change.message
        if (group?.kind === 'topic') this.checkTopic(group.project, group.name)
      },
    )
  }

  get isUp(): boolean {
    return this.client !== null
  }

  /** True without a connection, not even one that is opening: only a later connection can reach the device. */
  get isAway(): boolean {
    return this.link === null || !this.link.isOpenAtDevice
  }

  get isLive(): boolean {
    return this.client?.state === 'live'
  }

  /** True when the device is connected and its inbox is empty. */
  get isIdle(): boolean {
    return this.isLive && this.inboxSize() === 0
  }

  start(): void {
    if (this.client || this.closing) return
    const { clock, random, net, plan, trace } = this.world
    const host = new Host(clock)
    host.skewMs = this.world.skews.get(this.label) ?? 0
    this.host = host
    this.incarnation++
    const dial = net.dialOf(host, `10.0.0.${this.index}`, (link) => {
      this.link = link
    })
    const store = this.disk.open(host)
    this.inboxSize = () => store.state.inbox.size
    const client = new BorealisClient({ store, url: URL, settings: plan.device, clock: host.clock, random, dial })
    this.client = client
    this.listen(client, host)
    trace.add(this.label, 'starts')
    client.connect()
    void this.registerAndSubscribe(client, host)
  }

  crash(silently: boolean): void {
    if (!this.client || this.closing) return
    this.world.trace.add(this.label, silently ? 'crashes silently' : 'crashes')
    this.crashes++
    this.host?.crash()
    this.disk.crash()
    this.link?.deviceDied(silently)
    this.client = null
    this.host = null
  }

  /** Closes the client in order. */
  stop(): void {
    const { client, host } = this
    if (!client || this.closing) return
    this.world.trace.add(this.label, 'stops')
    this.closing = true
    void client.close().then(() => {
      host?.crash()
      this.client = null
      this.host = null
      this.closing = false
      if (this.startsAfterClose) this.start()
      this.startsAfterClose = false
    })
  }

  /** Starts the device if it is down. A device that is closing starts when it has closed. */
  ensureStarted(): void {
    if (this.closing) this.startsAfterClose = true
    else this.start()
  }

  /** Unsubscribes from the topic, or subscribes if the device is not subscribed. */
  toggleTopic(topic: string): void {
    const { client, host } = this
    if (!client || !host || this.closing) return
    if (!this.topics.delete(topic)) {
      this.topics.add(topic)
      for (const project of this.projects) this.left.delete(`${project}/${topic}`)
      void this.registerAndSubscribe(client, host)
      return
    }
    this.world.trace.add(this.label, `leaves ${topic}`)
    for (const project of this.projects) {
      this.endMembership(project, topic)
      const left = () => {
        if (!this.topics.has(topic)) this.left.add(`${project}/${topic}`)
      }
      client.unsubscribe(topic, { application: applicationOf(project) }).then(left, () => {
        // Without an answer the device may still be in the topic.
        this.world.trace.note(this.label, `could not leave ${topic}`)
      })
    }
  }

  /** No message of a topic may come after the answer to UNSUBSCRIBE, unless an older SUBSCRIBE was carried out late. */
  private checkTopic(project: string, topic: string): void {
    if (!this.left.has(`${project}/${topic}`)) return
    const record = this.world.broker.server
      .stream('KV_DEVICES')
      .last(`$KV.DEVICES.${deviceKey(this.name)}`, this.world.clock.now())
    const { topics } = record ? decodeDeviceRecord(record.body) : NO_DEVICE_RECORD
    if (topics.some((joined) => joined.project === project && joined.topic === topic)) return
    this.world.fail('isolation', `${this.label} got a message of ${project}/${topic} after it had left`)
  }

  get label(): string {
    return `device${this.index}`
  }

  /** Topics whose UNSUBSCRIBE the service confirmed. */
  private readonly left = new Set<string>()
  private startsAfterClose = false
  private inboxSize: () => number = () => 0

  private listen(client: BorealisClient, host: Host): void {
    const { trace, random, clock } = this.world
    const { incarnation } = this
    const recordSeen = (notification: Notification, expired: boolean) => {
      this.seen.push({ notification, incarnation, atMs: clock.now(), expired })
      const mark = `${notification.possibleDuplicate ? ' (possible duplicate)' : ''}${expired ? ' (expired)' : ''}`
      trace.add(this.label, `sees ${notification.title}${mark}`)
    }
    client.on('notification', (notification) => {
      recordSeen(notification, false)
      return sleep(host.clock, between(random, this.handlerMs))
    })
    client.on('expired', (notification) => recordSeen(notification, true))
    client.on('gap', (gap) => {
      this.gaps.push({ ...gap, atMs: clock.now() })
      trace.add(this.label, `gap ${gap.reason} ${gap.count}`)
    })
    client.on('ready', ({ connection }) => trace.add(this.label, `ready ${connection}`))
    client.on('closed', ({ code, name, reconnectInMs }) => {
      trace.add(this.label, `closed ${code} ${name}`)
      if (reconnectInMs === null && !this.closing) this.world.fail('internal', `${this.label} gave up: ${name}`)
    })
    client.on('error', (error) => {
      trace.note(this.label, `error ${error.code} ${error.message}`)
      if (error.code === 'bad_server_bytes') this.world.fail('internal', `${this.label}: ${error.message}`)
    })
  }

  /** Registers with every project and subscribes to every topic, with as many attempts as that takes. */
  private async registerAndSubscribe(client: BorealisClient, host: Host): Promise<void> {
    for (const project of this.projects) {
      const application = applicationOf(project)
      const registration = await this.retryUntilDone(client, host, () => client.register(application))
      if (!registration) return
      this.recordRegistration(project, registration)
      for (const topic of [...this.topics]) {
        this.requestedTopics.add(`${project}/${topic}`)
        const done = await this.retryUntilDone(client, host, async () => {
          if (this.topics.has(topic)) await client.subscribe(topic, { application })
          return true
        })
        if (!done) return
        if (this.topics.has(topic)) this.beginMembership('topic', project, topic)
      }
    }
  }

  private async retryUntilDone<T>(client: BorealisClient, host: Host, ask: () => Promise<T>): Promise<T | null> {
    while (this.client === client && !this.closing) {
      try {
        return await ask()
      } catch (error) {
        this.world.trace.note(this.label, `is refused: ${String(error)}`)
        await sleep(host.clock, RETRY_MS)
      }
    }
    return null
  }

  private recordRegistration(project: string, { number, registrationId }: Registration): void {
    this.beginMembership('app', project, applicationOf(project))
    const known = this.registrations.find((other) => other.project === project)
    if (known && known.registrationId !== registrationId) {
      this.world.fail('isolation', `${this.label} got another registration id of ${project} than before`)
    }
    if (known) return
    this.world.trace.add(this.label, `is registered with ${project}`)
    const application = applicationOf(project)
    this.registrations.push({ device: this.name, project, application, registration: number, registrationId })
  }

  private beginMembership(kind: 'app' | 'topic', project: string, name: string): void {
    const isIn = (m: Membership) =>
      m.kind === kind && m.project === project && m.name === name && m.untilMs === Infinity
    if (this.memberships.some(isIn)) return
    this.world.trace.add(this.label, `is in ${project}/${name}`)
    const fromMs = this.world.clock.now()
    this.memberships.push({ kind, project, name, fromMs, untilMs: Number.POSITIVE_INFINITY })
  }

  private endMembership(project: string, topic: string): void {
    for (const membership of this.memberships) {
      if (membership.project !== project || membership.name !== topic) continue
      membership.untilMs = Math.min(membership.untilMs, this.world.clock.now())
    }
  }
}
