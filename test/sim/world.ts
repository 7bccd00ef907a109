/**
 * One run of the simulation: cores, workers, devices and app servers on one virtual clock over one simulated server; a
 * time of faults; then everything is healed, comes to rest, and is judged (checks.ts). The seed decides all of it.
 */

import { CodedError } from '../../protocol/errors.js'
import { Bucket } from '../../protocol/subjects.js'
import { BrokerError } from '../../src/nats/broker.js'
import type { Logger } from '../../src/observe/log.js'
import { type ApplicationRecord, type ProjectRecord, RecordTable } from '../../src/store/tenants.js'
import { AppServer, LONG_MS } from './app-server.js'
import { SimBroker } from './broker.js'
import { SKEW_MS_MAX, wreak } from './chaos.js'
import { check } from './checks.js'
import type { SimClient } from './client.js'
import { VirtualClock } from './clock.js'
import { CoreProcess } from './core-process.js'
import { SimDevice } from './device.js'
import { applicationOf, deviceName, PROJECTS, START_MS } from './identities.js'
import { Sweeps } from './leaks.js'
import { leftOver } from './left-over.js'
import { SimNet } from './net.js'
import type { Invariant, Violation, WorldParts } from './parts.js'
import { type Plan, planOf, SILENT_MS } from './plan.js'
import { between, type Random, seeded } from './random.js'
import { Trace } from './trace.js'
import { WorkerProcess } from './worker-process.js'

const QUIET_FAULTS = { silentMs: SILENT_MS, reconnectMs: [50, 800] } as const
/** Everything has to come to rest in this time once nothing fails any more. */
const REST_MS_MAX = 240_000
const LOOK_MS = 1_000
/** Longer than the longest redelivery wait. */
const AFTER_REST_MS = 9_000
const WARM_UP_MS = 1_500
/** For the expiry step of a core that has just started. */
const SWEEP_MS = 25_000

export interface RunResult {
  violation: Violation | null
  digest: string
  lines: string[]
  /** Virtual time that the run took. */
  virtualMs: number
  sent: number
  /** Records that stay for ever and that nobody is owed, of the known kinds (leaks.ts). */
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
    const options = { random, clock, faults: QUIET_FAULTS, store: { split: plan.split } }
    this.broker = new SimBroker(options)
    if (isTraced)
      this.broker.server.observe = (what, subject, n) => this.trace.note('nats', `${what} ${subject} ${n || ''}`)
    const { backpressureBytesMax } = plan.transport
    this.net = new SimNet({ random, now: () => clock.now(), latencyMs: [1, 5], backpressureBytesMax })
    this.cores = Array.from({ length: plan.cores }, (_, i) => new CoreProcess(`core${i}`, this))
    this.workers = Array.from({ length: plan.workers }, (_, i) => new WorkerProcess(i, this))
    this.devices = Array.from({ length: plan.devices }, (_, i) => this.makeDevice(i))
    this.app = new AppServer(this, this.cores, this.devices)
  }

  /** Connections to the server of all processes that run. */
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
    const busy = [wreak(this, untilMs)]
    for (let producer = 0; producer < plan.producers; producer++) busy.push(app.produce(producer, untilMs))
    await clock.advanceUntil(Promise.all(busy))
    this.heal()
    await this.rest()
    if (!this.violation && this.isAtRest()) await this.probe()
    await clock.advance(AFTER_REST_MS)
    // A device may have found out meanwhile that its line had been dead for a while.
    await this.rest()
    if (!this.violation) await check(this)
    if (!this.violation) await this.outliveStrays()
    const virtualMs = clock.now() - START_MS
    const { violation, leaks } = this
    return { violation, digest: trace.digest, lines: trace.lines, virtualMs, sent: app.sent.length, leaks }
  }

  /** The first one counts. */
  fail(invariant: Invariant, what: string): void {
    this.trace.add('VIOLATION', `${invariant}: ${what}`)
    this.violation ??= { invariant, what }
  }

  /** Errors of the store are life; any other that is logged is a fault of ours. */
  loggerOf(who: string): Logger {
    const take = (severity: string) => (fields: { error?: unknown }, message: string) => {
      const { error } = fields
      this.trace.note(
        who,
        `${severity}: ${message} ${JSON.stringify({ ...fields, error: error && String(error) }, digits)}`,
      )
      const isOfStore = error instanceof BrokerError || error instanceof CodedError
      if (severity === 'error' || (error !== undefined && !isOfStore)) {
        this.fail('internal', `${who}: ${message}: ${error instanceof Error ? error.stack : String(error)}`)
      }
    }
    const levels = ['fatal', 'error', 'warn', 'info', 'debug', 'trace']
    return Object.fromEntries(levels.map((level) => [level, take(level)])) as unknown as Logger
  }

  /** Everything that is owed was done, as far as the store and the devices show. */
  isAtRest(): boolean {
    const { owed } = leftOver(this.broker.server, this.plan.split)
    return owed === null && this.app.isIdle && this.devices.every((device) => device.isIdle)
  }

  private async rest(): Promise<void> {
    const { clock } = this
    const untilMs = clock.now() + REST_MS_MAX
    while (!this.isAtRest() && clock.now() < untilMs && !this.violation) await clock.advance(LOOK_MS)
  }

  /** Devices that are connected get what is sent now: whatever happened left nothing wrong about where they are. */
  private async probe(): Promise<void> {
    const { clock, random, cores } = this
    // New routers remember no session.
    if (!this.plan.calm && random() < 0.5) {
      for (const core of cores) core.crash(false)
      for (const core of cores) core.start()
      await clock.until(() => cores.some((core) => core.isUp), REST_MS_MAX)
    }
    await clock.advanceUntil(this.app.probe())
    await this.rest()
  }

  /**
   * What the expiry step has to sweep out is gone once every message has expired. Nobody is owed anything of what
   * remains: of the kinds that are known it is counted, and any other is a violation.
   */
  private async outliveStrays(): Promise<void> {
    const { clock, broker, plan, trace } = this
    const sweeps = new Sweeps(broker.server)
    if (leftOver(broker.server, plan.split).strays.length === 0) return
    for (const part of [...this.cores, ...this.workers, ...this.devices]) part.crash(false)
    // What was accepted by a clock that was ahead lives so much longer.
    await clock.advance(LONG_MS + SKEW_MS_MAX)
    this.cores[0]?.start()
    await clock.advance(SWEEP_MS)
    for (const stray of leftOver(broker.server, plan.split).strays) {
      if (sweeps.isKnown(stray)) {
        this.leaks++
        trace.add('leak', stray.what)
      } else this.fail('stuck', `${stray.what} after everything has expired`)
    }
  }

  private heal(): void {
    const { broker, trace } = this
    trace.add('chaos', 'all is healed')
    broker.heal()
    Object.assign(broker.faults, QUIET_FAULTS)
    this.diskFaults.failWrite = 0
    for (const client of this.clients) {
      client.skewMs = 0
      client.heal()
      client.thaw()
    }
    for (const device of this.devices) device.host?.thaw()
    for (const { links } of this.workers) for (const link of links) link.slowMs = 0
    for (const part of [...this.cores, ...this.workers]) part.start()
    for (const device of this.devices) device.wake()
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

const digits = (_: string, value: unknown) => (typeof value === 'bigint' ? value.toString() : value)
