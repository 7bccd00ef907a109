/** What app servers send on an ordinary day, and what devices do. */
import { sleep } from '../../src/clock.js'
import { between } from '../sim/random.js'
import type { App, YearDevice } from './device.js'
import type { Message } from './ledger.js'
import { PROJECTS, TOPICS, type YearWorld } from './world.js'

const SECOND_MS = 1_000
const MINUTE_MS = 60_000
const DAY_MS = 86_400_000
export const LONG_MS = 28 * DAY_MS

export interface Addressee {
  device: YearDevice
  app: App
}

export interface Sending {
  ttlMs?: number
  notBeforeMs?: number
  collapseKey?: string
  /** Codes of errors with which it may be refused. */
  mayBe?: readonly string[]
}

export class Traffic {
  sent = 0
  cancelled = 0
  refusedAsMeant = 0
  private readonly cancellable: { id: string; message: Message }[] = []

  constructor(private readonly world: YearWorld) {}

  /** Everybody who can be addressed now. */
  addressees(project: string): Addressee[] {
    const found: Addressee[] = []
    for (const device of this.world.devices) {
      if (device.isRevoked) continue
      const app = device.apps.find((one) => one.project === project && one.registrationId !== '')
      if (app) found.push({ device, app })
    }
    return found
  }

  /** Within `ms`, `count` messages to single devices and some to a few. */
  async ordinary(count: number, ms: number): Promise<void> {
    const { clock, random } = this.world
    const one = async () => {
      await sleep(clock, between(random, [0, ms]))
      const project = PROJECTS[between(random, [0, PROJECTS.length - 1])] ?? 'north'
      const all = this.addressees(project)
      if (all.length === 0 || this.world.suspended.has(project)) return
      const some = Array.from({ length: random() < 0.1 ? 5 : 1 }, () => all[between(random, [0, all.length - 1])])
      await this.toDevices(project, [...new Set(some)] as Addressee[], this.drawSending())
    }
    await Promise.all(Array.from({ length: count }, one))
    await this.cancelSome()
  }

  /** True: it was accepted. */
  async toDevices(project: string, to: readonly Addressee[], sending: Sending = {}): Promise<boolean> {
    const [first] = to
    if (!first) return false
    const targets = to.map(({ device, app: { number, registrationId } }) => ({ device, number, registrationId }))
    const message = this.compose(project, sending, { targets })
    const ids = targets.map(({ registrationId }) => registrationId)
    const { application } = first.app
    const whom = to.length === 1 ? `${first.device.name} ${application}` : `${application} ${project}`
    const answer = await this.post(message, sending, {
      ...(ids.length === 1 ? { type: 'device', target: ids[0] } : { type: 'devices', target: ids }),
      notification: { title: `m${message.n}`, message: `${message.n} ${whom}` },
    })
    if (!answer) return false
    const rejected = (answer.rejected ?? []) as { target: string; code: string }[]
    for (const { target, code } of rejected) this.rejected(message, target, code)
    const id = String(answer.id)
    this.world.ledger.promised(id, message)
    if (message.ttlMs === LONG_MS && !message.collapses) this.cancellable.push({ id, message })
    return true
  }

  async toTopic(project: string, topic: string, sending: Sending = {}): Promise<boolean> {
    const { devices } = this.world
    const isIn = (app: App) => app.project === project && app.registrationId !== '' && app.topics.has(topic)
    const members = devices.filter((device) => device.apps.some(isIn))
    return this.toGroup(project, `${project}/${topic}`, members, { type: 'topic', target: topic }, topic, sending)
  }

  async toApplication(project: string, sending: Sending = {}): Promise<boolean> {
    const { devices, applications } = this.world
    const application = applications.get(project) ?? ''
    const members = devices.filter((device) =>
      device.apps.some((app) => app.project === project && app.registrationId !== ''),
    )
    const to = { type: 'application', target: application }
    return this.toGroup(project, application, members, to, application, sending)
  }

  private async toGroup(
    project: string,
    group: string,
    members: YearDevice[],
    to: { type: string; target: string },
    whom: string,
    sending: Sending,
  ): Promise<boolean> {
    const message = this.compose(project, sending, { members, group })
    const answer = await this.post(message, sending, {
      ...to,
      notification: { title: `m${message.n}`, message: `${message.n} ${whom} ${project}` },
    })
    if (!answer) return false
    this.world.ledger.promised(String(answer.id), message)
    return true
  }

  private compose(project: string, sending: Sending, to: Partial<Message>): Message {
    const { clock } = this.world
    const calledAtMs = clock.now()
    const dueAtMs = sending.notBeforeMs ?? calledAtMs
    return {
      n: ++this.sent,
      project,
      targets: [],
      members: [],
      group: null,
      ttlMs: sending.ttlMs ?? LONG_MS,
      calledAtMs,
      dueAtMs,
      collapses: sending.collapseKey !== undefined,
      isCancelled: false,
      isDisturbed: () => this.world.isDisturbed(dueAtMs),
      ...to,
    }
  }

  /** Null: it was refused, for a reason that was meant. */
  private async post(message: Message, sending: Sending, body: object): Promise<Record<string, unknown> | null> {
    const { notBeforeMs, collapseKey, mayBe = [] } = sending
    const full = {
      ...body,
      ttl: `${Math.ceil(message.ttlMs / SECOND_MS)}s`,
      ...(notBeforeMs !== undefined && { notBefore: new Date(notBeforeMs).toISOString() }),
      ...(collapseKey !== undefined && { collapseKey }),
    }
    const before = this.world.findings.count('refusals')
    const answer = await this.world.appOf(message.project).send(full, undefined, [...mayBe, ...this.endedOf(message)])
    if (answer) return answer.body
    if (this.world.findings.count('refusals') === before) this.refusedAsMeant++
    return null
  }

  /** A registration that ended a moment ago is refused with a reason. */
  private endedOf({ targets }: Message): string[] {
    return targets.some((target) => hasEnded(target)) ? ['revoked_registration', 'unknown_registration'] : []
  }

  private rejected(message: Message, registrationId: string, code: string): void {
    const target = message.targets.find((one) => one.registrationId === registrationId)
    if (!target || !hasEnded(target)) this.world.refused(`a target of m${message.n}`, code)
    message.targets = message.targets.filter((one) => one !== target)
  }

  private async cancelSome(): Promise<void> {
    const { random } = this.world
    for (const { id, message } of this.cancellable.splice(0)) {
      if (random() > 0.05) continue
      message.isCancelled = true
      const isOpen = this.world.ledger.isOpen(id)
      if (await this.world.appOf(message.project).cancel(id, isOpen)) this.cancelled++
    }
  }

  private drawSending(): Sending {
    const { random, clock } = this.world
    const chance = random()
    if (chance < 0.55) return {}
    if (chance < 0.65) return { ttlMs: 0 }
    if (chance < 0.75) return { ttlMs: 10 * SECOND_MS }
    if (chance < 0.85) return { ttlMs: between(random, [1, 20]) * 60 * MINUTE_MS }
    if (chance < 0.92) return { collapseKey: random() < 0.5 ? 'a' : 'b' }
    return { notBeforeMs: clock.now() + between(random, [1, 20]) * DAY_MS }
  }

  // ---- devices ----------------------------------------------------------------------------------

  /** Some leave for days, some come back, some crash, some have an app installed anew. */
  async devices(day: number, ms: number): Promise<void> {
    const { devices, random, clock } = this.world
    const at = () => sleep(clock, between(random, [0, ms]))
    const work = devices.map(async (device) => {
      const chance = random()
      if (device.isRevoked || this.world.goodbyes.has(device)) return
      if (!device.isUp) {
        if (day < device.awayUntilDay) return
        await at()
        device.start()
      } else if (chance < 0.02) {
        device.awayUntilDay = day + between(random, [1, random() < 0.9 ? 5 : 40])
        await at()
        await device.stop()
      } else if (chance < 0.025) {
        await at()
        device.crash()
        await at()
        device.start()
      } else if (chance < 0.028 && device.isSettled) {
        await at()
        const app = device.apps[between(random, [0, device.apps.length - 1])]
        if (app && device.isSettled) await device.reinstall(app)
      }
    })
    await Promise.all(work)
  }
}

export const topicOf = (n: number): string => TOPICS[n % TOPICS.length] ?? 'news'

function hasEnded({ device, number }: Message['targets'][0]): boolean {
  return device.isRevoked || device.apps.some(({ ended }) => ended.has(number))
}
