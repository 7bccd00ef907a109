/** Two cores and two transports, each of any version, with devices and load. */
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { LocalSystem } from '../../bench/system/local-system.js'
import { environmentOf } from '../../bench/system/settings.js'
import { claimPorts } from '../../src/cli/start/ports.js'
import { systemClock } from '../../src/clock.js'
import {
  createApplication,
  createFleet,
  createProject,
  mintToken,
  openTenants,
} from '../../src/core/tenants/projects.js'
import { type BorealisClient, openClient } from '../../src/device/index.js'
import { endWithParent } from '../../src/nats/server/end-with-parent.js'
import type { NatsUser } from '../../src/nats/server/permissions.js'
import { deleteStream } from '../../src/nats/server/snapshot.js'
import { borealis } from './instance.js'

const DEVICES = 8
const PUSHES_PER_SECOND = 40
const READY_MS_MAX = 60_000

export type Part = 'core' | 'transport'

/** Transports of the version before share the account of the cores. They, and later ones beside an old core, use this user. */
const LEGACY: NatsUser = { role: 'legacyTransport', user: 'legacy', password: randomBytes(12).toString('hex') }

export class Upgrade {
  readonly accepted: { id: string; device: number }[] = []
  private readonly seen = new Map<string, number>()
  private readonly parts = new Map<string, ChildProcess>()
  private readonly programs = new Map<string, string>()
  private readonly clients: BorealisClient[] = []
  private readonly registrations: string[] = []
  private loading: Promise<void> | null = null
  private isLoading = true
  private token = ''

  private constructor(
    readonly system: LocalSystem,
    private readonly folder: string,
    private readonly ports: Readonly<Record<Part, readonly number[]>>,
  ) {}

  /** Starts two cores and two transports of the previous version, with half of the devices at each transport, and load. */
  static async start(folder: string, previous: string): Promise<Upgrade> {
    const anyPort = { host: '127.0.0.1', port: 0, setting: '', variable: '' }
    const system = await LocalSystem.start({ folder, parts: [], settings: {}, natsUsers: [LEGACY] })
    const [a = 0, b = 0, c = 0, d = 0] = await claimPorts([anyPort, anyPort, anyPort, anyPort])
    const run = new Upgrade(system, folder, { core: [a, b], transport: [c, d] })
    try {
      const admin = await system.brokerAs('admin')
      // The previous version does not know this table.
      await deleteStream(admin.bus, 'KV_STORE')
      for (const index of [0, 1]) await run.startPart('core', index, previous)
      for (const index of [0, 1]) await run.startPart('transport', index, previous)
      await run.furnish()
      return run
    } catch (error) {
      await run.stop()
      throw error
    }
  }

  /** Stops one part in order and starts the present version in its place. */
  async replace(part: Part, index: number): Promise<void> {
    const child = this.parts.get(`${part}-${index}`)
    if (!child) throw new Error(`no ${part} ${index}`)
    child.kill('SIGTERM')
    if (child.exitCode === null) await once(child, 'exit')
    await this.startPart(part, index, borealis)
  }

  during(ms: number): Promise<void> {
    return sleep(ms)
  }

  async quiet(): Promise<void> {
    this.isLoading = false
    await this.loading
  }

  /** The accepted pushes that their device has not received, after up to a minute of waiting. */
  async missing(): Promise<string[]> {
    const missing = () => this.accepted.filter(({ id, device }) => !this.seen.has(`${device}/${id}`))
    for (const deadlineMs = Date.now() + 60_000; missing().length > 0 && Date.now() < deadlineMs; ) await sleep(200)
    return missing().map(({ id, device }) => `${device}/${id}`)
  }

  /** The pushes that a device got more than once. */
  twice(): string[] {
    return [...this.seen].filter(([, times]) => times > 1).map(([key]) => key)
  }

  /** The number of pending targets in the counters, after up to twenty seconds of waiting for zero. */
  async pending(): Promise<number> {
    for (let attempt = 0; ; attempt++) {
      const { body } = await this.ask(attempt % 2, 'GET', 'counters')
      const { accepted = 0, pending: _pending, ...finals } = body.total as Record<string, number>
      const pending = accepted - Object.values(finals).reduce((sum, count) => sum + count, 0)
      if (pending === 0 || attempt > 100) return pending
      await sleep(200)
    }
  }

  async stop(): Promise<void> {
    this.isLoading = false
    await this.loading
    await Promise.all(this.clients.map((client) => client.close()))
    for (const child of this.parts.values()) {
      if (child.exitCode !== null || child.signalCode !== null) continue
      child.kill('SIGTERM')
      const force = setTimeout(() => child.kill('SIGKILL'), 20_000)
      await once(child, 'exit')
      clearTimeout(force)
    }
    await this.system.stop()
  }

  private async startPart(part: Part, index: number, program: string): Promise<void> {
    const cores = [...this.programs].filter(([name]) => name.startsWith('core'))
    const isMixed = cores.some(([, program]) => program !== borealis)
    const { url } = this.system.natsAs(part)
    const { user, password } = part === 'transport' && isMixed ? LEGACY : this.system.natsAs(part)
    this.programs.set(`${part}-${index}`, program)
    const own = environmentOf({
      nats: { url, user, password },
      keyring: { file: this.system.config.keyring.file },
      log: { level: 'warn' },
      http: { host: '127.0.0.1', port: this.ports.core[index] ?? 0 },
      transport: {
        ...{ host: '127.0.0.1', port: this.ports.transport[index] ?? 0, workers: 1, instance: `t${index}` },
        ...{ drainMs: 500, drainJitterMs: 200, drainGraceMs: 200 },
      },
    })
    const child = spawn(process.execPath, [program, part], {
      env: { ...process.env, ...own },
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    })
    endWithParent(child)
    let text = ''
    child.stderr?.setEncoding('utf8').on('data', (more) => {
      text = (text + more).slice(-4_000)
    })
    this.parts.set(`${part}-${index}`, child)
    const late = sleep(READY_MS_MAX, 'late', { ref: false })
    const result = await Promise.race([once(child, 'message').then(() => 'ready'), once(child, 'exit'), late])
    if (result !== 'ready') throw new Error(`${part} ${index} of ${program} did not start:\n${text}`)
  }

  private async furnish(): Promise<void> {
    const tenants = openTenants(await this.system.brokerAs('admin'), systemClock)
    const { project } = await createProject(tenants, { id: 'shop', alg: 'ES256' })
    const application = (await createApplication(tenants, project.id)).id
    const { enrolmentKey } = await createFleet(tenants, { name: 'tills' })
    const { keyring, config } = this.system
    this.token = (await mintToken(tenants, keyring, { ...config.auth, accessTokenSeconds: 3_600 }, project.id)).token
    for (let number = 0; number < DEVICES; number++) {
      const client = await openClient({
        state: join(this.folder, `device-${number}.state`),
        enrol: { url: `http://127.0.0.1:${this.ports.core[0]}`, enrolmentKey },
        url: `ws://127.0.0.1:${this.ports.transport[number % 2]}/v1/device`,
        settings: { fsync: 'never', reconnectBaseMs: 100, reconnectCapMs: 500 },
        random: Math.random,
      })
      this.clients.push(client)
      client.on('notification', ({ id }) => {
        const key = `${number}/${id}`
        this.seen.set(key, (this.seen.get(key) ?? 0) + 1)
      })
      client.connect()
      this.registrations.push((await client.register(application)).registrationId)
    }
    this.loading = this.load()
  }

  private async load(): Promise<void> {
    for (let n = 0; this.isLoading; n++) {
      await Promise.all([this.push(n), sleep(1_000 / PUSHES_PER_SECOND)])
    }
  }

  private async push(n: number): Promise<void> {
    const device = n % DEVICES
    const message = { type: 'device', target: this.registrations[device], ttl: '1h', notification: { title: `${n}` } }
    // One of the cores may be restarting at this moment.
    for (const core of [n % 2, (n + 1) % 2]) {
      const answer = await this.ask(core, 'POST', 'messages', message).catch(() => null)
      if (answer?.status !== 202) continue
      this.accepted.push({ id: String(answer.body.id), device })
      return
    }
  }

  private async ask(core: number, method: string, path: string, body?: object) {
    const response = await fetch(`http://127.0.0.1:${this.ports.core[core]}/push/public/api/v1/projects/shop/${path}`, {
      method,
      headers: { authorization: `Bearer ${this.token}`, 'content-type': 'application/json' },
      ...(body && { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(5_000),
    })
    return { status: response.status, body: (await response.json()) as Record<string, unknown> }
  }
}
