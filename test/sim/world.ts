/**
 * One run of the simulation. Real core, worker and device code runs on one virtual clock over one simulated nats-server
 * while chaos.ts injects faults. Then every fault is healed, the world comes to rest, and checks.ts checks the
 * invariants. The seed decides everything, so that a failing run can be replayed.
 */
import { Bucket } from '../../protocol/subjects.js'
import type { Logger } from '../../src/observe/log.js'
import { type ApplicationRecord, type ProjectRecord, RecordTable } from '../../src/store/tenants.js'
import { AppServer, LONG_MS } from './app-server.js'
import { SimBroker } from './broker.js'
import { injectFaults, SKEW_MS_MAX } from './chaos.js'
import { check } from './checks.js'
import type { SimClient } from './client.js'
import { VirtualClock } from './clock.js'
import { CoreProcess } from './core-process.js'
import { SimDevice } from './device.js'
import { applicationOf, deviceName, PROJECTS, START_MS } from './identities.js'
import { PlannedSweeps } from './leaks.js'
import { leftOver } from './left-over.js'
import { SimNet } from './net.js'
import type { Invariant, Violation, WorldParts } from './parts.js'
import { type Plan, planOf, SILENT_MS } from './plan.js'
import { between, type Random, seeded } from './random.js'
import { strictLogger } from './strict-logger.js'
import { Trace } from './trace.js'
import { WorkerProcess } from './worker-process.js'

const QUIET_FAULTS = { silentMs: SILENT_MS, reconnectMs: [50, 800] } as const
/** The world must come to rest within this time after the last fault is healed. */
const REST_MS_MAX = 240_000
const REST_POLL_MS = 1_000
/** Longer than the longest redelivery wait. */
const AFTER_REST_MS = 9_000
const WARM_UP_MS = 1_500
/** Room has to come in this time once everything is at rest. It is longer than events stay at least. */
const ROOM_MS_MAX = 600_000
/** Enough time for a core that has just started to finish its expiry step. */
const SWEEP_MS = 25_000

export interface RunResult {
  violation: Violation | null
  digest: string
  lines: string[]
  /** How much virtual time the run took. */
  virtualMs: number
  /** Number of messages that the app servers sent. */
  sent: number
  /** Number of records that stay for ever although their message has ended, of the known kinds (leaks.ts). */
  leaks: number
}

export class World implements WorldParts {
  readonly clock = new VirtualClock(START_MS)
  readonly random: Random
  readonly plan: Plan
  readonly broker: SimBroker
  readonly net: SimNet
  readonly diskFaults = { failWrite: 0 }
  readonly trace: Trace
  readonly skews = new Map<string, number>()
  readonly cores: CoreProcess[]
  readonly workers: WorkerProcess[]
  readonly devices: SimDevice[]
  readonly app: AppServer
  violation: Violation | null = null
  private leaks = 0

  constructor(
    readonly seed: number,
    isTraced: boolean,
  ) {
    const { clock } = this
    this.random = seeded(seed)
    this.plan = planOf(this.random)
    const { plan, random } = this
    this.trace = new Trace(() => clock.now() - START_MS, isTraced)
    const options = { random, clock, faults: QUIET_FAULTS, store: { split: plan.split, ...plan.tight } }
    this.broker = new SimBroker(options)
    if (isTraced)
      this.broker.server.observe = (action, subject, n) => this.trace.note('nats', `${action} ${subject} ${n || ''}`)
    const { backpressureBytesMax } = plan.transport
    this.net = new SimNet({ random, now: () => clock.now(), latencyMs: [1, 5], backpressureBytesMax })
    this.cores = Array.from({ length: plan.cores }, (_, i) => new CoreProcess(`core${i}`, this))
    this.workers = Array.from({ length: plan.workers }, (_, i) => new WorkerProcess(i, this))
    this.devices = Array.from({ length: plan.devices }, (_, i) => this.makeDevice(i))
    this.app = new AppServer(this, this.cores, this.devices)
  }

  /** The NATS connections of all running processes. */
  get clients(): SimClient[] {
    return [...this.cores, ...this.workers].map(({ client }) => client).filter((client) => client !== null)
  }

  async run(): Promise<RunResult> {
    const { clock, plan, broker, trace, app } = this
    await this.prepare()
    for (const part of [...this.cores, ...this.workers, ...this.devices]) part.start()
    await clock.advance(WARM_UP_MS)
    Object.assign(broker.faults, plan.faults, QUIET_FAULTS)
    this.diskFaults.failWrite = plan.failWrite
    const untilMs = clock.now() + plan.busyMs
    const busy = [injectFaults(this, untilMs)]
    for (let producer = 0; producer < plan.producers; producer++) busy.push(app.produce(producer, untilMs))
    await clock.advanceUntil(Promise.all(busy))
    this.heal()
    await this.comeToRest()
    if (!this.violation && this.isAtRest()) await this.probe()
    await clock.advance(AFTER_REST_MS)
    // A device notices only now that its half-open connection is dead, and reconnects.
    await this.comeToRest()
    if (!this.violation && this.isTight) await this.regainRoom()
    if (!this.violation) await check(this)
    if (!this.violation) await this.expireStrays()
    const virtualMs = clock.now() - START_MS
    const { violation, leaks } = this
    return { violation, digest: trace.digest, lines: trace.lines, virtualMs, sent: app.sent.length, leaks }
  }

  get isTight(): boolean {
    return Object.keys(this.plan.tight).length > 0
  }

  /** Records a violation. The run reports the first one. */
  fail(invariant: Invariant, detail: string): void {
    this.trace.add('VIOLATION', `${invariant}: ${detail}`)
    this.violation ??= { invariant, detail }
  }

  loggerOf(who: string): Logger {
    return strictLogger(this, who)
  }

  /** True when the store holds no unfinished message, no request is open, and every device is connected and idle. */
  isAtRest(): boolean {
    const { owed } = leftOver(this.broker.server, this.plan.split)
    return owed === null && this.app.isIdle && this.devices.every((device) => device.isIdle)
  }

  private async comeToRest(): Promise<void> {
    const { clock } = this
    const untilMs = clock.now() + REST_MS_MAX
    while (!this.isAtRest() && clock.now() < untilMs && !this.violation) await clock.advance(REST_POLL_MS)
  }

  /** Sends one more message to every registration: the faults must have left no wrong session behind. */
  private async probe(): Promise<void> {
    const { clock, random, cores } = this
    // A restarted core has an empty session cache, so both ways to find a device are tried.
    if (!this.plan.calm && random() < 0.5) {
      for (const core of cores) core.crash(false)
      for (const core of cores) core.start()
      await clock.until(() => cores.some((core) => core.isUp), REST_MS_MAX)
    }
    await clock.advanceUntil(this.app.probe())
    await this.comeToRest()
  }

  /** Checks that the store regains room without help: messages must be accepted again within ROOM_MS_MAX. */
  private async regainRoom(): Promise<void> {
    const { clock, app } = this
    if (this.devices.every(({ registrations }) => registrations.length === 0)) return
    const untilMs = clock.now() + ROOM_MS_MAX
    while (clock.now() < untilMs) {
      const before = app.sent.length
      await clock.advanceUntil(app.probe())
      const isAccepted = app.sent.slice(before).every(({ accepted }) => accepted !== null)
      await this.comeToRest()
      if (isAccepted) return
      await clock.advance(AFTER_REST_MS)
    }
    this.fail('stuck', `no room came in ${ROOM_MS_MAX / 1_000} s`)
  }

  /**
   * Lets every message expire, and checks that the expiry step deletes the strays (left-over.ts). A stray that remains
   * is counted as a leak if its kind is known (leaks.ts); any other is a violation.
   */
  private async expireStrays(): Promise<void> {
    const { clock, broker, plan, trace } = this
    const sweeps = new PlannedSweeps(broker.server)
    if (leftOver(broker.server, plan.split).strays.length === 0) return
    for (const part of [...this.cores, ...this.workers, ...this.devices]) part.crash(false)
    // A message that was accepted by a core with a fast clock lives longer by that skew.
    await clock.advance(LONG_MS + SKEW_MS_MAX)
    this.cores[0]?.start()
    await clock.advance(SWEEP_MS)
    for (const stray of leftOver(broker.server, plan.split).strays) {
      if (sweeps.isKnownLeak(stray)) {
        this.leaks++
        trace.add('leak', stray.description)
      } else this.fail('stuck', `${stray.description} after every message has expired`)
    }
  }

  private heal(): void {
    const { broker, trace } = this
    trace.add('chaos', 'every fault is healed')
    broker.heal()
    Object.assign(broker.faults, QUIET_FAULTS)
    this.diskFaults.failWrite = 0
    this.skews.clear()
    for (const client of this.clients) {
      client.skewMs = 0
      client.heal()
      client.thaw()
    }
    for (const { host } of this.devices) {
      if (host) host.skewMs = 0
      host?.thaw()
    }
    for (const { links } of this.workers) for (const link of links) link.slowMs = 0
    for (const part of [...this.cores, ...this.workers]) part.start()
    for (const device of this.devices) device.ensureStarted()
  }

  private async prepare(): Promise<void> {
    const { broker, clock } = this
    const admin = broker.brokerFor('admin')
    const projects = new RecordTable<ProjectRecord>(admin.table(Bucket.PROJECTS), 'project')
    const applications = new RecordTable<ApplicationRecord>(admin.table(Bucket.APPLICATIONS), 'application')
    const serviceAccount = { clientId: 'client', keys: [] }
    for (const id of PROJECTS) {
      const at = { createdAtMs: START_MS, updatedAtMs: START_MS }
      await clock.advanceUntil(projects.create({ v: 1, id, name: id, isActive: true, serviceAccount, ...at }))
      const application = { id: applicationOf(id), project: id, name: id, createdAtMs: START_MS }
      await clock.advanceUntil(applications.create({ v: 1, ...application }))
    }
    await admin.close()
  }

  private makeDevice(index: number): SimDevice {
    const { random } = this
    const projects = PROJECTS.filter((_, i) => i === index % PROJECTS.length || random() < 0.3)
    const topics = new Set(['t1', 't2'].filter(() => random() < 0.6))
    const handlerMs: [number, number] = random() < 0.2 ? [0, 400] : [0, 10]
    return new SimDevice(deviceName(between(random, [0, 1_000]) * 10 + index), index, projects, topics, handlerMs, this)
  }
}
