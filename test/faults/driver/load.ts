/**
 * The load of a fault run: a mix of all kinds of pushes at a moderate rate, and producers that send in order. The mix has
 * pushes to connected and absent devices, to several devices, to groups, with collapse keys, with short or no time to
 * live, with a cancel, and from publishers on NATS.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { between, type Random } from '../../sim/random.js'
import type { FaultDevice } from './device.js'
import type { Push, Sender } from './sender.js'

export interface Crowd {
  devices: readonly FaultDevice[]
  /** The project of each device. */
  projects: readonly string[]
  applications: Readonly<Record<string, string>>
  topic: string
  /** The project of the publisher on NATS. */
  ingressProject: string
  /** Devices with a producer that waits for each answer before it sends the next push. */
  ordered: readonly number[]
  /** Devices that connect and disconnect all the time. */
  intermittent: readonly number[]
  /** Devices that stay connected unless a fault disconnects them. */
  steady: readonly number[]
}

/** The messages that fill a stream. */
export interface Flood {
  kind: 'device' | 'topic' | 'ingress'
  lanes: number
  characters: number
  ttlSeconds: number
  /** In the detail of the refusals that count. */
  refusal?: string
  laterMs?: number
  /** Share of the messages with an idempotency key. */
  keyedShare?: number
}

export interface FloodCounts {
  sent: number
  refused: number
}

const REFUSED_MS = 250

/** Longer than the largest error of a clock, which is from an hour behind to an hour ahead. */
const LONG_SECONDS = 14_400
/** Times to live of pushes to one device: too short, and long enough, for a device that reconnects. */
const SHORT_SECONDS = [2, 10] as const
/** Times to live of pushes to a group. */
const GROUP_SECONDS = [LONG_SECONDS, LONG_SECONDS, 10, 0] as const
const UNDER_WAY_MAX = 200
const ORDERED_EVERY_MS = [300, 700] as const
const DISCONNECTED_MS = [500, 4_000] as const
const CONNECTED_MS = [1_000, 5_000] as const

export class Load {
  #running = false
  #lanes: Promise<void>[] = []

  constructor(
    private readonly crowd: Crowd,
    private readonly sender: Sender,
    private readonly random: Random,
    private readonly pushesPerSecond: number,
  ) {}

  start(): void {
    if (this.#running) return
    this.#running = true
    this.#lanes = [
      this.#sendMixed(),
      ...this.crowd.ordered.map((device) => this.#sendInOrder(device)),
      ...this.crowd.intermittent.map((device) => this.#connectAndDisconnect(device)),
    ]
  }

  /** Stops the load, and resolves when every attempt has its answer. */
  async stop(): Promise<void> {
    this.#running = false
    await Promise.all(this.#lanes)
    await this.sender.awaitAnswers()
  }

  /**
   * Sends messages as fast as they are answered, in addition to the load, until `signal` aborts. After a refusal a lane
   * pauses, as Retry-After requests. Counts the messages in `counts`.
   */
  async flood(flood: Flood, devices: readonly number[], counts: FloodCounts, signal: AbortSignal): Promise<void> {
    const lane = async () => {
      while (!signal.aborted) {
        const { answer, detail } = await this.sender.send(this.#oneOf(flood, devices))
        counts.sent++
        if (answer === 'accepted') continue
        if (detail.includes(flood.refusal ?? '')) counts.refused++
        await sleep(REFUSED_MS)
      }
    }
    await Promise.all(Array.from({ length: flood.lanes }, lane))
  }

  #oneOf({ kind, characters, ttlSeconds, laterMs, keyedShare = 0 }: Flood, devices: readonly number[]): Push {
    const also = {
      ...{ ttlSeconds, characters, isKeyed: this.random() < keyedShare },
      ...(laterMs !== undefined && { laterMs }),
    }
    if (kind === 'topic') return { ...this.#toGroup(kind), ...also }
    if (kind === 'ingress') return { ...this.#overNats(), ...also }
    return this.#to(pick(devices, this.random), also)
  }

  /** Sends one push to this device, in addition to the load. */
  async pushTo(device: number): Promise<void> {
    await this.sender.send(this.#to(device))
  }

  async #sendMixed(): Promise<void> {
    while (this.#running) {
      // The bound keeps attempts from piling up while no request is answered.
      if (this.sender.underWay < UNDER_WAY_MAX) this.#sendOne()
      await sleep((1000 / this.pushesPerSecond) * 2 * this.random())
    }
  }

  #sendOne(): void {
    const dice = this.random()
    const intermittent = () => pick(this.crowd.intermittent, this.random)
    const steady = () => pick(this.crowd.steady, this.random)
    const any = () => (this.random() < 0.5 ? intermittent() : steady())
    if (dice < 0.35) this.#send(this.#to(steady()))
    else if (dice < 0.5) this.#send(this.#to(intermittent()))
    else if (dice < 0.6) this.#send(this.#to(intermittent(), { collapseKey: 'score' }))
    else if (dice < 0.68) this.#send(this.#toSeveral())
    else if (dice < 0.8) this.#send(this.#overNats())
    else if (dice < 0.85) this.#send(this.#to(any(), { ttlSeconds: pick(SHORT_SECONDS, this.random) }))
    else if (dice < 0.9) this.#send(this.#to(any(), { ttlSeconds: 0 }))
    else if (dice < 0.95) void this.#sendAndCancel(this.#to(intermittent()))
    else this.#send(this.#toGroup(dice < 0.99 ? 'topic' : 'application'))
  }

  #send(push: Push): void {
    void this.sender.send(push)
  }

  async #sendAndCancel(push: Push): Promise<void> {
    const { attempt, id } = await this.sender.send(push)
    if (id !== null) await this.sender.cancel(push.project, attempt, id)
  }

  #to(device: number, also: Partial<Push> = {}): Push {
    const { devices, projects } = this.crowd
    const project = projects[device] ?? ''
    const targets = [devices[device]?.registrationId ?? '']
    return { kind: 'device', project, targets, devices: [device], ttlSeconds: LONG_SECONDS, ...also }
  }

  #toSeveral(): Push {
    const { devices, projects, steady, intermittent } = this.crowd
    const first = pick(steady, this.random)
    const project = projects[first] ?? ''
    const others = [...steady, ...intermittent].filter((n) => n !== first && projects[n] === project)
    const from = between(this.random, [0, Math.max(0, others.length - 4)])
    const all = [first, ...others.slice(from, from + 4)]
    const targets = all.map((n) => devices[n]?.registrationId ?? '')
    return { kind: 'devices', project, targets, devices: all, ttlSeconds: LONG_SECONDS }
  }

  #overNats(): Push {
    const { steady, projects, ingressProject } = this.crowd
    const own = steady.filter((device) => projects[device] === ingressProject)
    return { ...this.#to(pick(own, this.random)), kind: 'ingress' }
  }

  #toGroup(kind: 'topic' | 'application'): Push {
    const { projects, applications, topic } = this.crowd
    const project = pick([...new Set(projects)], this.random)
    const devices = projects.flatMap((of, device) => (of === project ? [device] : []))
    const name = kind === 'topic' ? topic : (applications[project] ?? '')
    return { kind, project, targets: [name], devices, ttlSeconds: pick(GROUP_SECONDS, this.random) }
  }

  async #sendInOrder(device: number): Promise<void> {
    while (this.#running) {
      await this.sender.send(this.#to(device, { producer: `producer-${device}` }))
      await sleep(between(this.random, ORDERED_EVERY_MS))
    }
  }

  async #connectAndDisconnect(number: number): Promise<void> {
    const device = this.crowd.devices[number]
    while (this.#running) {
      await sleep(between(this.random, CONNECTED_MS))
      if (!this.#running) return
      await device?.disconnect()
      await sleep(between(this.random, DISCONNECTED_MS))
      // A connect may fail while a fault lasts. The device itself keeps trying.
      await device?.connect().catch(() => undefined)
    }
  }
}

export function pick<T>(from: readonly T[], random: Random): T {
  const one = from[Math.floor(random() * from.length)]
  if (one === undefined) throw new RangeError('nothing to pick from')
  return one
}
