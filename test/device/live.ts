/** Starts a complete service in this process, on real ports: nats-server, a core and a transport worker. */
import { join } from 'node:path'
import type { Test } from 'tap'
import { Value } from 'typebox/value'
import { DEVICE_PATH } from '../../protocol/frame.js'
import { systemClock } from '../../src/clock.js'
import { AdminApiSettings, HttpSettings, LimitSettings } from '../../src/core/api/settings.js'
import { type Core, startCore } from '../../src/core/core.js'
import { DeviceLimits, MessageLimits } from '../../src/core/domain/limits.js'
import { IngressSettings } from '../../src/core/ingress/settings.js'
import { WebhookSettings } from '../../src/core/outcomes/webhooks/settings.js'
import type { CoreSettings } from '../../src/core/settings.js'
import { AuthSettings } from '../../src/core/tenants/auth/settings.js'
import {
  createApplication,
  createFleet,
  createProject,
  mintToken,
  openTenants,
} from '../../src/core/tenants/projects.js'
import { type BorealisClient, type OpenOptions, openClient } from '../../src/device/index.js'
import { Keyring } from '../../src/keyring.js'
import { silentLogger } from '../../src/observe/log.js'
import { TransportSettings } from '../../src/transport/settings.js'
import { type RunningWorker, startWorker } from '../../src/transport/supervisor/worker-process.js'
import { quickSettings } from '../support/core.js'
import { PUBLISHER_PROJECT, startNats, type TestNats } from '../support/nats.js'
import { FAST } from './support.js'

export interface Live {
  core: Core
  keyring: Keyring
  worker: RunningWorker
  /** An access token of the project. */
  token: string
  application: string
  /** The URL for enrolment and for the API. */
  coreUrl: string
  enrolmentKey: string
  nats: TestNats
  /** Starts another worker of the instance, on a port of its own. */
  startWorker(): Promise<RunningWorker>
  urlOf(worker: RunningWorker): string
  /** Opens a device with a state file of this name. The same name gives the same device again. */
  device(name: string, options?: Partial<OpenOptions>): Promise<BorealisClient>
  stateFile(name: string): string
  /** Sends a push, and gives its id. Throws if it is not accepted. */
  send(type: string, target: string, title: string): Promise<string>
  status(id: string): Promise<string>
}

export interface LiveOptions {
  webhooks?: WebhookSettings
  /** Replaces single quick settings of tests. */
  core?: Partial<CoreSettings>
  /** The URL at which app servers reach the core, if it differs from the address of the listener. */
  publicUrl?: string
  limits?: Partial<LimitSettings>
  auth?: Partial<AuthSettings>
  /** Without it the core has no admin API. */
  adminApi?: AdminApiSettings
}

export async function startLive(t: Test, options: LiveOptions = {}): Promise<Live> {
  const nats = await startNats(t)
  const keyring = Keyring.generate(systemClock.now())
  const tenants = openTenants(await nats.brokerAs('admin'), systemClock)
  await createProject(tenants, { id: PUBLISHER_PROJECT, alg: 'ES256' })
  const { id: application } = await createApplication(tenants, PUBLISHER_PROJECT)
  const { enrolmentKey } = await createFleet(tenants)
  const auth = Value.Default(AuthSettings, {}) as AuthSettings

  let workers = 0
  const urlOf = ({ port }: RunningWorker) => `ws://127.0.0.1:${port}`
  const startOneWorker = async () => {
    const running = await startWorker({
      broker: await nats.brokerAs('transport'),
      clock: systemClock,
      settings: {
        ...(Value.Default(TransportSettings, {}) as TransportSettings),
        ...{ host: '127.0.0.1', port: 0, drainJitterMs: 100, drainGraceMs: 200 },
      },
      split: nats.store.split,
      keys: keyring.transportKeys(),
      issuer: auth.issuer,
      index: workers++,
      log: silentLogger,
    })
    t.teardown(() => running.stop())
    return running
  }
  const worker = await startOneWorker()
  const core = await startCore({
    broker: await nats.brokerAs('core'),
    clock: systemClock,
    random: Math.random,
    keyring,
    log: silentLogger,
    settings: {
      core: { ...quickSettings, gateway: true, ...options.core },
      http: { ...(Value.Default(HttpSettings, {}) as HttpSettings), port: 0, publicUrl: options.publicUrl ?? '' },
      auth: { ...auth, ...options.auth, transportUrl: `${urlOf(worker)}${DEVICE_PATH}` },
      messages: Value.Default(MessageLimits, {}) as MessageLimits,
      devices: Value.Default(DeviceLimits, {}) as DeviceLimits,
      ingress: Value.Default(IngressSettings, {}) as IngressSettings,
      limits: { ...(Value.Default(LimitSettings, {}) as LimitSettings), ...options.limits },
      adminApi: options.adminApi ?? (Value.Default(AdminApiSettings, {}) as AdminApiSettings),
      webhooks: options.webhooks ?? (Value.Default(WebhookSettings, {}) as WebhookSettings),
      split: nats.store.split,
    },
  })
  t.teardown(() => core.stop())

  const coreUrl = core.url ?? ''
  const { token } = await mintToken(tenants, keyring, auth, PUBLISHER_PROJECT)
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
  const messages = `${coreUrl}/push/public/api/v1/projects/${PUBLISHER_PROJECT}/messages`
  const folder = t.testdir()
  return {
    core,
    keyring,
    worker,
    token,
    application,
    coreUrl,
    enrolmentKey,
    nats,
    startWorker: startOneWorker,
    urlOf,
    stateFile: (name) => join(folder, name),
    device: async (name, options = {}) => {
      const client = await openClient({
        state: join(folder, name),
        enrol: { url: coreUrl, enrolmentKey, name },
        random: Math.random,
        ...options,
        settings: { ...FAST, fsync: 'never', ...options.settings },
      })
      t.teardown(() => client.close())
      return client
    },
    send: async (type, target, title) => {
      const body = JSON.stringify({ target, type, ttl: '1h', notification: { title, data: { n: 1 } } })
      const response = await fetch(messages, { method: 'POST', headers, body })
      const answer = (await response.json()) as { id?: string }
      if (response.status !== 202 || !answer.id) throw new Error(`${response.status} ${JSON.stringify(answer)}`)
      return answer.id
    },
    status: async (id) => {
      const response = await fetch(`${messages}/${id}`, { headers })
      return ((await response.json()) as { status: string }).status
    },
  }
}
