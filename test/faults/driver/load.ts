/**
 * A moderate load that never stops: pushes to devices that are there, that are away, to several, to groups, under
 * collapse keys, with short lives, cancelled at once, from publishers on NATS; and producers that keep an order.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { between, type Random } from '../../sim/random.js'
import type { FaultDevice } from './device.js'
import type { Push, Sender } from './sender.js'

export interface Crowd {
  devices: readonly FaultDevice[]
  /** By number. */
  projects: readonly string[]
  applications: Readonly<Record<string, string>>
  topic: string
  /** The only project that publishers on NATS may send for. */
  ingressProject: string
  /** Whose producers wait for each answer. */
  ordered: readonly number[]
  /** Who comes and goes. */
  flighty: readonly number[]
  /** Who is there. */
  steady: readonly number[]
}

/** Longer than a clock is ever wrong, from an hour behind to an hour ahead. */
const LONG_SECONDS = 14_400
const SHORT_SECONDS = 2
const UNDER_WAY_MAX = 200
const ORDERED_EVERY_MS = [300, 700] as const
const AWAY_MS = [500, 4_000] as const
const THERE_MS = [1_000, 5_000] as const

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
      this.#mixed(),
      ...this.crowd.ordered.map((device) => this.#inOrder(device)),
      ...this.crowd.flighty.map((device) => this.#comeAndGo(device)),
    ]
  }

  /** Resolves when every push that was begun has its answer. */
  async stop(): Promise<void> {
    this.#running = false
    await Promise.all(this.#lanes)
    await this.sender.quiet()
  }

  /** One more push to this device, beside the load. */
  async pushTo(device: number): Promise<void> {
    await this.sender.send(this.#to(device))
  }

  async #mixed(): Promise<void> {
    while (this.#running) {
      // While nothing is answered, attempts would only pile up.
      if (this.sender.underWay < UNDER_WAY_MAX) this.#one()
      await sleep((1000 / this.pushesPerSecond) * 2 * this.random())
    }
  }

  #one(): void {
    const dice = this.random()
    const flighty = () => pick(this.crowd.flighty, this.random)
    const steady = () => pick(this.crowd.steady, this.random)
    if (dice < 0.35) this.#send(this.#to(steady()))
    else if (dice < 0.5) this.#send(this.#to(flighty()))
    else if (dice < 0.6) this.#send(this.#to(flighty(), { collapseKey: 'score' }))
    else if (dice < 0.68) this.#send(this.#toSeveral())
    else if (dice < 0.8) this.#send(this.#overNats())
    else if (dice < 0.85) this.#send(this.#to(flighty(), { ttlSeconds: SHORT_SECONDS }))
    else if (dice < 0.9) this.#send(this.#to(this.random() < 0.5 ? flighty() : steady(), { ttlSeconds: 0 }))
    else if (dice < 0.95) void this.#cancelled(this.#to(flighty()))
    else this.#send(this.#toGroup(dice < 0.99 ? 'topic' : 'application'))
  }

  #send(push: Push): void {
    void this.sender.send(push)
  }

  async #cancelled(push: Push): Promise<void> {
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
    const { devices, projects, steady, flighty } = this.crowd
    const first = pick(steady, this.random)
    const project = projects[first] ?? ''
    const others = [...steady, ...flighty].filter((n) => n !== first && projects[n] === project)
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
    return { kind, project, targets: [name], devices, ttlSeconds: LONG_SECONDS }
  }

  async #inOrder(device: number): Promise<void> {
    while (this.#running) {
      await this.sender.send(this.#to(device, { producer: `producer-${device}` }))
      await sleep(between(this.random, ORDERED_EVERY_MS))
    }
  }

  async #comeAndGo(device: number): Promise<void> {
    const it = this.crowd.devices[device]
    while (this.#running) {
      await sleep(between(this.random, THERE_MS))
      if (!this.#running) return
      await it?.disconnect()
      await sleep(between(this.random, AWAY_MS))
      // Under a fault it may take long: the load goes on without it.
      await it?.connect().catch(() => undefined)
    }
  }
}

export function pick<T>(from: readonly T[], random: Random): T {
  const one = from[Math.floor(random() * from.length)]
  if (one === undefined) throw new RangeError('nothing to pick from')
  return one
}
