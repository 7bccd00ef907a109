/**
 * The app servers of a run. They send and cancel messages through the cores, and keep each message with its answer: the
 * checks hold the service to every message that was answered with `accepted`. Without an answer a message may or may
 * not be stored.
 */
import { sleep } from '../../src/clock.js'
import type { Delivery } from '../../src/core/delivery/delivery.js'
import type { AcceptCommand, Accepted } from '../../src/core/domain/commands.js'
import type { CoreProcess } from './core-process.js'
import type { KnownRegistration, SimDevice } from './device.js'
import { applicationOf, PROJECTS } from './identities.js'
import type { WorldParts } from './parts.js'
import { between } from './random.js'

export interface Sent {
  /** Counts all messages of the run. */
  n: number
  producer: number
  project: string
  targets: KnownRegistration[]
  group: { kind: 'app' | 'topic'; name: string } | null
  ttlMs: number
  /** The time of a scheduled message; null sends it at once. */
  notBeforeMs: number | null
  title: string
  body: string
  collapseKey: string
  calledAtMs: number
  /** The answer; null if the request failed or was not answered. */
  accepted: Accepted | null
  /** True after a core answered a cancel with `cancelled`. */
  cancelled: boolean
  /** The devices that were away at the time of that answer. */
  cancelledWhileAway: { device: string; atMs: number }[]
}

export const LONG_MS = 86_400_000 * 7
/** How long the HTTP client waits for an answer. */
const REQUEST_TIMEOUT_MS = 8_000
const ATTEMPTS_MAX = 3
/** The producer number of the messages that are sent after every fault is healed. */
const PROBE_PRODUCER = 99
/** Latency of a request to a core, one way. */
const HTTP_LATENCY_MS = 2

export class AppServer {
  readonly sent: Sent[] = []
  private readonly byTitle = new Map<string, Sent>()
  private openRequests = 0
  private composed = 0

  constructor(
    private readonly world: WorldParts,
    private readonly cores: readonly CoreProcess[],
    private readonly devices: readonly SimDevice[],
  ) {}

  /** True when no request waits for its answer. */
  get isIdle(): boolean {
    return this.openRequests === 0
  }

  findByTitle(title: string): Sent | undefined {
    return this.byTitle.get(title)
  }

  /** Sends the messages of one producer, each after the answer to the one before. */
  async produce(producer: number, untilMs: number): Promise<void> {
    const { clock, random, plan } = this.world
    const project = PROJECTS[producer % PROJECTS.length] as string
    for (let left = plan.messagesMax; left > 0 && clock.now() < untilMs; left--) {
      await sleep(clock, between(random, plan.gapMs))
      const sent = this.compose(producer, project)
      if (sent) await this.send(sent)
    }
  }

  /** Sends one message to every registration. */
  async probe(): Promise<void> {
    const known = this.devices.flatMap((device) => device.registrations)
    await Promise.all(
      known.map((target) =>
        this.send({ ...this.emptyMessage(PROBE_PRODUCER, target.project), targets: [target], ttlMs: LONG_MS }),
      ),
    )
  }

  /** Cancels one of the last messages to devices. */
  async cancelRecent(): Promise<void> {
    const { random, trace } = this.world
    const sent = this.sent[this.sent.length - between(random, [1, 6])]
    if (!sent?.accepted || sent.group) return
    const { id } = sent.accepted
    const result = await this.ask((core) => core.cancel(sent.project, id))
    trace.add('app', `cancel ${sent.title}: ${result ?? 'unknown'}`)
    if (result === 'cancelled') {
      sent.cancelled = true
      const names = new Set(sent.targets.map(({ device }) => device))
      for (const device of this.devices) {
        if (!names.has(device.name) || !device.isAway) continue
        sent.cancelledWhileAway.push({ device: device.name, atMs: this.world.clock.now() })
      }
    }
    // In a tight world the events of a message that ended may have left the store.
    if (result === 'unknown' && !this.world.isTight)
      this.world.fail('loss', `${sent.title} was accepted, but cancel answered that it is unknown`)
  }

  private compose(producer: number, project: string): Sent | null {
    const { random } = this.world
    const some = <T>(values: readonly T[]): T => values[between(random, [0, values.length - 1])] as T
    const known = this.devices.flatMap((device) => device.registrations).filter((r) => r.project === project)
    if (known.length === 0) return null
    const kind = some(['device', 'device', 'device', 'devices', 'topic', 'app'] as const)
    const sent: Sent = {
      ...this.emptyMessage(producer, project),
      targets: kind === 'device' ? [some(known)] : kind === 'devices' ? known.filter(() => random() < 0.7) : [],
      ttlMs: some([LONG_MS, LONG_MS, LONG_MS, LONG_MS, 0, between(random, [200, 9_000])]),
      collapseKey: random() < 0.15 ? some(['a', 'b']) : '',
      notBeforeMs: random() < 0.12 ? this.world.clock.now() + between(random, [0, 9_000]) : null,
    }
    if (kind === 'topic') sent.group = { kind, name: some(['t1', 't2']) }
    if (kind === 'app') sent.group = { kind, name: applicationOf(project) }
    return sent.group || sent.targets.length > 0 ? sent : null
  }

  private emptyMessage(producer: number, project: string): Sent {
    const { random, clock } = this.world
    const n = ++this.composed
    const body = `${project} ${n} ${Math.floor(random() * 1e9).toString(36)}`
    const sent = {
      n,
      producer,
      project,
      targets: [],
      group: null,
      ttlMs: 0,
      notBeforeMs: null,
      title: `m${n}`,
      body,
      collapseKey: '',
    }
    return { ...sent, calledAtMs: clock.now(), accepted: null, cancelled: false, cancelledWhileAway: [] }
  }

  private async send(sent: Sent): Promise<void> {
    const { random, trace } = this.world
    const { group, targets } = sent
    this.sent.push(sent)
    this.byTitle.set(sent.title, sent)
    const command: AcceptCommand = {
      project: sent.project,
      type: group ? (group.kind === 'app' ? 'application' : 'topic') : targets.length === 1 ? 'device' : 'devices',
      targets,
      group,
      ttlMs: sent.ttlMs,
      notBeforeMs: sent.notBeforeMs,
      priority: 'normal',
      collapseKey: sent.collapseKey,
      title: sent.title,
      message: sent.body,
      data: new Uint8Array(0),
      ...(random() < 0.5 && { idempotency: { key: `key-${sent.n}`, fingerprint: sent.body } }),
    }
    const to = group ? group.name : targets.map((target) => Number.parseInt(target.device.slice(4), 36)).join()
    trace.add('app', `sends ${sent.title} to ${to}${sent.ttlMs === LONG_MS ? '' : ` for ${sent.ttlMs} ms`}`)
    for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt++) {
      const accepted = await this.ask((core) => core.accept(command))
      if (accepted) {
        sent.accepted = accepted
        trace.add('app', `${sent.title} accepted as ${accepted.id}`)
        return
      }
      trace.add('app', `${sent.title} unknown`)
      // Without an idempotency key a second attempt would send a second message.
      if (command.idempotency === undefined) return
    }
  }

  /**
   * Calls a core that is up. Gives null if the core refuses or does not answer in time: a frozen core answers late, a
   * crashed one never.
   */
  private ask<T>(question: (core: Delivery) => Promise<T>): Promise<T | null> {
    const { clock, random } = this.world
    const up = this.cores.filter((core) => core.isUp)
    const core = up[between(random, [0, up.length - 1])]
    const { client, delivery } = core ?? { client: null, delivery: null }
    if (!client || !delivery) return sleep(clock, HTTP_LATENCY_MS * 100).then(() => null)
    this.openRequests++
    return new Promise<T | null>((resolve) => {
      const end = (answer: T | null) => {
        cancelTimeout()
        resolve(answer)
      }
      const cancelTimeout = clock.after(REQUEST_TIMEOUT_MS, () => resolve(null))
      client.clock.after(HTTP_LATENCY_MS, () => {
        question(delivery).then(
          (answer) => client.clock.after(HTTP_LATENCY_MS, () => end(answer)),
          (error: unknown) => {
            this.world.trace.note(core?.name ?? '', `refuses: ${String(error)}`)
            client.clock.after(HTTP_LATENCY_MS, () => end(null))
          },
        )
      })
    }).finally(() => {
      this.openRequests--
    })
  }
}
