/** Runs `borealis transport` as an operator does: a supervisor process with its workers and an admin port. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { claimPorts } from '../../src/cli/start/ports.js'
import { BorealisClient, type ClientOptions, identify, MemoryStateStore } from '../../src/device/index.js'
import { mintDeviceToken } from '../../src/device-token.js'
import { Keyring } from '../../src/keyring.js'
import type { InstanceStatus } from '../../src/transport/supervisor/instance-status.js'
import { startNats, type TestNats } from './nats.js'
import { ISSUER, newDevice } from './transport.js'

export interface TestInstance {
  nats: TestNats
  keyring: Keyring
  process: ChildProcess
  port: number
  adminPort: number
  /** Environment variables of the process. A command that gets them talks to this instance. */
  environment: Record<string, string>
  folder: string
  /** The lines logged so far, each a JSON object. */
  log: Record<string, unknown>[]
  /** Resolves with the exit code or signal of the process. */
  ended: Promise<number | NodeJS.Signals>
  status(): Promise<InstanceStatus>
  /** Sends a request to the admin port. */
  admin(method: string, path: string, headers?: Record<string, string>): Promise<{ status: number; body: unknown }>
  /** Resolves with a device that is connected to this instance. */
  device(options?: Partial<ClientOptions>): Promise<BorealisClient>
}

export const borealis = fileURLToPath(new URL('../../src/cli.js', import.meta.url))

/** @param settings environment variables, such as BOREALIS_TRANSPORT_WORKERS */
export async function startInstance(
  t: Pick<Test, 'teardown'>,
  settings: Record<string, string> = {},
  /** Another instance that shares its nats-server and keyring with this one. */
  beside?: Pick<TestInstance, 'nats' | 'keyring'>,
): Promise<TestInstance> {
  const nats = beside?.nats ?? (await startNats(t))
  const folder = mkdtempSync(join(tmpdir(), 'borealis-instance-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const keyring = beside?.keyring ?? Keyring.generate(Date.now())
  const keys = join(folder, 'keys.json')
  writeFileSync(keys, JSON.stringify(keyring.transportKeys()), { mode: 0o600 })
  const anyPort = { host: '127.0.0.1', port: 0, setting: '', variable: '' }
  const [port = 0, adminPort = 0] = await claimPorts([anyPort, anyPort])
  const as = nats.settingsAs('transport')
  const environment = {
    BOREALIS_LOG_FORMAT: 'json',
    BOREALIS_NATS_URL: nats.url,
    BOREALIS_NATS_USER: as.user,
    BOREALIS_NATS_PASSWORD: as.password,
    BOREALIS_STORE_SPLIT: String(nats.store.split),
    BOREALIS_KEYRING_TRANSPORT_FILE: keys,
    BOREALIS_AUTH_ISSUER: ISSUER,
    BOREALIS_TRANSPORT_HOST: '127.0.0.1',
    BOREALIS_TRANSPORT_PORT: String(port),
    BOREALIS_TRANSPORT_WORKERS: '2',
    BOREALIS_TRANSPORT_DRAIN_JITTER_MS: '2000',
    BOREALIS_TRANSPORT_DRAIN_GRACE_MS: '200',
    BOREALIS_ADMIN_PORT: String(adminPort),
    ...settings,
  }
  const child = spawn(process.execPath, [borealis, 'transport'], {
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    env: { ...process.env, ...environment },
  })
  const ended = once(child, 'exit').then(([code, signal]) => (signal ?? code) as number | NodeJS.Signals)
  t.teardown(async () => {
    child.kill('SIGKILL')
    await ended
  })
  const log: Record<string, unknown>[] = []
  followLog(child, log)
  const failed = ended.then((how) => {
    throw new Error(`the instance ended: ${how}\n${log.map((line) => JSON.stringify(line)).join('\n')}`)
  })
  failed.catch(() => undefined)
  await Promise.race([once(child, 'message'), failed])

  const admin = async (method: string, path: string, headers: Record<string, string> = {}) => {
    const response = await fetch(`http://127.0.0.1:${adminPort}${path}`, { method, headers })
    const text = await response.text()
    return { status: response.status, body: text === '' ? null : (JSON.parse(text) as unknown) }
  }
  return {
    ...{ nats, keyring, process: child, port, adminPort, environment, folder, log, ended, admin },
    status: async () => (await admin('GET', '/status')).body as InstanceStatus,
    device: async (options = {}) => {
      const device = newDevice()
      const key = keyring.signingKey('deviceToken')
      const claims = { issuer: ISSUER, device, fleet: 'fleet', nowMs: Date.now(), lifetimeMs: 3_600_000 }
      const store = new MemoryStateStore()
      await identify(store, { deviceId: device, token: mintDeviceToken(key, claims).token, expiresAtMs: 0, url: '' })
      // After the jitter a worker closes the devices that are still connected. With half of the random range each device
      // waits at most half of the jitter, so it leaves by itself on a busy machine too. Its other waits are shorter as well.
      const random = () => Math.random() / 2
      const client = new BorealisClient({
        ...{ store, url: `ws://127.0.0.1:${port}`, random },
        ...options,
        settings: { reconnectBaseMs: 50, reconnectCapMs: 500, ...options.settings },
      })
      t.teardown(() => client.close())
      const ready = new Promise((resolve) => client.once('ready', resolve))
      client.connect()
      await ready
      return client
    },
  }
}

function followLog(child: ChildProcess, log: Record<string, unknown>[]): void {
  let rest = ''
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    const lines = (rest + text).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) {
      if (process.env.TEST_LOG) process.stderr.write(`${line}\n`)
      log.push(line.startsWith('{') ? (JSON.parse(line) as Record<string, unknown>) : { raw: line })
    }
  })
}

/** Runs a command of `borealis` to its end. */
export async function run(
  args: readonly string[],
  environment: Record<string, string>,
): Promise<{ code: number; stdout: string; stderr: string }> {
  const child = spawn(process.execPath, [borealis, ...args], { env: { ...process.env, ...environment } })
  let [stdout, stderr] = ['', '']
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  const [code] = (await once(child, 'close')) as [number]
  return { code, stdout, stderr }
}
