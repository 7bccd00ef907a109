/** The public API of a core on a real nats-server. A fake that the test controls stands in for the delivery steps. */
import type { Test } from 'tap'
import { Value } from 'typebox/value'
import { BROADCAST_STREAM, Bucket, INGRESS_STREAM } from '../../protocol/subjects.js'
import { type Clock, systemClock } from '../../src/clock.js'
import { createGateway, type Gateway } from '../../src/core/api/public/gateway.js'
import { publicUrlOf, tokenIssuersOf } from '../../src/core/api/public-url.js'
import { RateLimits } from '../../src/core/api/rate-limits.js'
import { HttpSettings, LimitSettings } from '../../src/core/api/settings.js'
import { DeviceService } from '../../src/core/devices/device-requests.js'
import { Registrations } from '../../src/core/devices/registrations.js'
import type { AcceptCommand, Accepted, MessageStatus } from '../../src/core/domain/commands.js'
import { DeviceLimits, MessageLimits } from '../../src/core/domain/limits.js'
import { type MessageFormat, messageFormat } from '../../src/core/domain/message.js'
import { QueryBudget } from '../../src/core/domain/query-budget.js'
import type { PrivateServiceKey } from '../../src/core/tenants/auth/service-keys.js'
import { AuthSettings } from '../../src/core/tenants/auth/settings.js'
import { AccessTokenVerifier } from '../../src/core/tenants/auth/tokens.js'
import { Directory } from '../../src/core/tenants/directory.js'
import {
  createApplication,
  createProject,
  mintToken,
  openTenants,
  type Tenants,
} from '../../src/core/tenants/projects.js'
import { Keyring, type MacKeys } from '../../src/keyring.js'
import type { Broker } from '../../src/nats/broker.js'
import { type Logger, silentLogger } from '../../src/observe/log.js'
import { DeviceStore } from '../../src/store/devices.js'
import { PUBLISHER_PROJECT, startNats, type TestNats } from './nats.js'

/** Stands in for the delivery steps. It answers as the test sets it, and records each command. */
export interface FakeCore {
  accepted: AcceptCommand[]
  accept: (command: AcceptCommand) => Promise<Accepted>
  statuses: Map<bigint, MessageStatus>
  cancel: (project: string, id: bigint) => Promise<'cancelled' | 'already_final' | 'unknown'>
}

export interface TestApi {
  nats: TestNats
  broker: Broker
  tenants: Tenants
  directory: Directory
  keyring: Keyring
  registrationKeys: MacKeys
  gateway: Gateway
  devices: DeviceService
  queries: QueryBudget
  core: FakeCore
  clock: Clock & { skewMs: number }
  log: Logger
  auth: AuthSettings
  messages: MessageFormat
  /** An active project. */
  project: string
  /** Its only application. */
  application: string
  serviceKey: PrivateServiceKey
  clientId: string
  token: string
  /** The address that the gateway publishes as its own. */
  publicUrl: string
  http: HttpSettings
  /** Starts a second core of the same installation: its own connection, directory and gateway. */
  another(): Promise<TestApi>
}

export interface TestApiOptions {
  http?: Partial<HttpSettings>
  auth?: Partial<AuthSettings>
  devices?: Partial<DeviceLimits>
  limits?: Partial<LimitSettings>
  /** How many core processes share the limits. */
  gateways?: () => number
  requestTimeoutMs?: number
  log?: Logger
}

export async function startTestApi(t: Test, options: TestApiOptions = {}): Promise<TestApi> {
  const requestTimeoutMs = options.requestTimeoutMs ?? 5_000
  const nats = await startNats(t, { nats: { requestTimeoutMs } })
  const broker = await nats.brokerAs('core')
  const clock = { ...systemClock, skewMs: 0, now: () => systemClock.now() + clock.skewMs }
  const log = options.log ?? silentLogger
  const tenants = openTenants(await nats.brokerAs('admin'), clock)
  const keyring = Keyring.generate(clock.now())
  const auth = { ...(Value.Default(AuthSettings, {}) as AuthSettings), ...options.auth }
  const http = { ...(Value.Default(HttpSettings, {}) as HttpSettings), port: 0, ...options.http }
  const messages = messageFormat(Value.Default(MessageLimits, {}) as MessageLimits)
  const { project, serviceKey } = await createProject(tenants, { id: PUBLISHER_PROJECT, alg: 'ES256' })
  const { id: application } = await createApplication(tenants, PUBLISHER_PROJECT)
  const { token } = await mintToken(tenants, keyring, auth, PUBLISHER_PROJECT)
  const { registrationKeys } = keyring
  const core = fakeCore(clock)
  const deviceLimits = { ...(Value.Default(DeviceLimits, {}) as DeviceLimits), ...options.devices }
  const accessTokens = new AccessTokenVerifier(keyring, { ...auth, issuer: tokenIssuersOf(http, auth) })
  const limitSettings = { ...(Value.Default(LimitSettings, {}) as LimitSettings), ...options.limits }
  const queries = new QueryBudget(http, clock, Math.random)
  const gatewayOf = (broker: Broker, directory: Directory) =>
    createGateway(
      {
        broker,
        directory,
        keyring,
        registrations: new Registrations({
          ...{ broker, directory, registrationKeys, clock, log },
          limits: deviceLimits,
        }),
        accessTokens,
        registrationKeys,
        accept: (command) => core.accept(command),
        readStatus: async (id) => core.statuses.get(id) ?? null,
        cancel: (project, id) => core.cancel(project, id),
        readCounters: async () => [
          { application, day: '2025-01-01', counts: { accepted: 3, delivered: 2, pending: 1 } },
          { application, day: '2025-01-02', counts: { accepted: 1, delivered: 1 } },
        ],
        listMessages: async (_project, { before, limit }) =>
          [...core.statuses.values()]
            .filter(({ id }) => before === null || id < before)
            .sort((a, b) => (a.id < b.id ? 1 : -1))
            .slice(0, limit)
            .map(({ id, type, acceptedAtMs }) => ({ id, type, acceptedAtMs, status: 'delivered' })),
        streams: [BROADCAST_STREAM, INGRESS_STREAM],
        queries,
        rates: new RateLimits(limitSettings, clock, options.gateways ?? (() => 1)),
        auth,
        messages,
        clock,
        log,
      },
      http,
    )
  const startGateway = async (broker: Broker) => {
    const directory = await Directory.start(broker, log)
    t.teardown(() => directory.stop())
    const gateway = gatewayOf(broker, directory)
    t.teardown(() => gateway.stop())
    return { broker, directory, gateway }
  }
  const first = await startGateway(broker)
  const { directory } = first
  const devices = new DeviceService({
    broker,
    directory,
    registrationKeys,
    limits: deviceLimits,
    clock,
    log,
  })
  devices.start()
  t.teardown(() => devices.stop())
  // The answer to this read proves that the server knows the earlier subscription of DeviceService on the same connection.
  // Otherwise a request at once could be answered with "no responders".
  await new DeviceStore(broker.table(Bucket.DEVICES)).read('dev_00000000000000000000')
  const api: TestApi = {
    ...first,
    nats,
    tenants,
    keyring,
    registrationKeys,
    devices,
    queries,
    core,
    clock,
    log,
    auth,
    messages,
    project: PUBLISHER_PROJECT,
    application,
    serviceKey,
    clientId: project.serviceAccount.clientId,
    token,
    publicUrl: publicUrlOf(http),
    http,
    another: async () => ({ ...api, ...(await startGateway(await nats.brokerAs('core', 'other'))) }),
  }
  return api
}

function fakeCore(clock: Clock): FakeCore {
  const accepted: AcceptCommand[] = []
  return {
    accepted,
    accept: async (command) => {
      accepted.push(command)
      const acceptedAtMs = clock.now()
      return {
        id: 4_611_686_018_427_387_905n,
        acceptedAtMs,
        expiresAtMs: acceptedAtMs + command.ttlMs,
        notBeforeMs: command.notBeforeMs,
      }
    },
    statuses: new Map(),
    cancel: async () => 'unknown',
  }
}

/** Much longer than a busy machine needs. */
const PATIENCE_MS = 60_000

/** Polls for a condition without an event, such as a watch that has seen a change. */
export async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadlineMs = Date.now() + PATIENCE_MS
  while (!(await condition())) {
    if (Date.now() > deadlineMs) throw new Error(`this did not happen within ${PATIENCE_MS} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}
