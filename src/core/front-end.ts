/**
 * The front end of a core: HTTP APIs, device requests and NATS ingress, which share one directory of tenants. core.ts starts
 * it after the delivery steps and stops it before them, so that no message is accepted without a router.
 */
import {
  BROADCAST_STREAM,
  DEAD_LETTERS_STREAM,
  EXPIRY_STREAM,
  eventsStream,
  INGRESS_STREAM,
  messagesStream,
  queueStream,
  SCHEDULE_STREAM,
} from '../../protocol/subjects.js'
import type { Clock } from '../clock.js'
import type { Keyring } from '../keyring.js'
import type { Broker } from '../nats/broker.js'
import type { Logger } from '../observe/log.js'
import { StopStack } from '../stop-stack.js'
import { AuditLog } from '../store/audit.js'
import { firstRegistrationNumber } from '../store/format.js'
import type { AdminContext } from './api/admin/context.js'
import { FailedSignIns } from './api/admin/failed-sign-ins.js'
import { createAdminServer } from './api/admin/server.js'
import { createGateway } from './api/public/gateway.js'
import { publicUrlOf, tokenIssuersOf } from './api/public-url.js'
import { RateLimits } from './api/rate-limits.js'
import type { Bind } from './api/server.js'
import type { AdminApiSettings, HttpSettings, LimitSettings } from './api/settings.js'
import { Gateways } from './cluster/gateways.js'
import { DeviceService } from './devices/device-requests.js'
import { Registrations } from './devices/registrations.js'
import type { AcceptMessage, CancelMessage, ListMessages, ReadCounters, ReadStatus } from './domain/commands.js'
import type { DeviceLimits, MessageLimits } from './domain/limits.js'
import { messageFormat } from './domain/message.js'
import { QueryBudget } from './domain/query-budget.js'
import { Ingress } from './ingress/ingress.js'
import type { IngressSettings } from './ingress/settings.js'
import type { CoreMetrics } from './metrics.js'
import { FeedAdministration } from './outcomes/feed-administration.js'
import type { WebhookSettings } from './outcomes/webhooks/settings.js'
import { Administration } from './tenants/administration.js'
import type { AuthSettings } from './tenants/auth/settings.js'
import { AccessTokenVerifier } from './tenants/auth/tokens.js'
import { Directory } from './tenants/directory.js'

export interface FrontEndOptions {
  broker: Broker
  keyring: Keyring
  /** Number of streams in each split family (store.split). */
  split: number
  accept: AcceptMessage
  readStatus: ReadStatus
  cancel: CancelMessage
  readCounters: ReadCounters
  listMessages: ListMessages
  settings: FrontEndSettings
  /** The number of this process in message ids. */
  node: number
  /** core.leaseMs */
  leaseMs: number
  /** False: the process does not serve the HTTP API, only device requests and NATS publishers. */
  gateway: boolean
  /** How the HTTP servers get to their addresses; absent: they listen there. */
  bind?: Bind
  clock: Clock
  /** 0 up to 1, as Math.random. */
  random: () => number
  log: Logger
  metrics: CoreMetrics
}

/** Sections of the configuration, by their names. */
export interface FrontEndSettings {
  http: HttpSettings
  adminApi: AdminApiSettings
  auth: AuthSettings
  messages: MessageLimits
  devices: DeviceLimits
  ingress: IngressSettings
  limits: LimitSettings
  webhooks: WebhookSettings
}

export interface FrontEnd {
  /** Address of the HTTP API; null: this process does not serve it. */
  url: string | null
  port: number | null
  /** Address of the admin API; null: this process does not serve it. */
  adminUrl: string | null
  /** Accepts nothing new, and resolves when all pending requests are answered. */
  stop(): Promise<void>
}

/** Rejects with BrokerError or a listener's error, after it has stopped all parts. */
export async function startFrontEnd(options: FrontEndOptions): Promise<FrontEnd> {
  const { broker, keyring, settings, accept, clock, log, metrics } = options
  const parts = new StopStack()
  const stop = () => parts.stop()
  try {
    const directory = await Directory.start(broker, log)
    parts.add(directory)
    const { registrationKeys } = keyring
    const shared = { broker, directory, registrationKeys, accept, clock, log }

    const firstNumber = await firstRegistrationNumber(broker)
    const limits = settings.devices
    const devices = new DeviceService({ broker, directory, registrationKeys, limits, firstNumber, clock, log })
    devices.start()
    parts.add(devices)

    const messages = messageFormat(settings.messages)
    const { bodyBytesMax } = settings.http
    const ingress = new Ingress({ ...shared, settings: settings.ingress, messages, bodyBytesMax })
    await ingress.start()
    parts.add(ingress)

    const registrations = new Registrations({ ...shared, limits })
    const address: { url: string | null; port: number | null } = { url: null, port: null }
    const publicUrl = () => publicUrlOf({ ...settings.http, port: address.port ?? settings.http.port })
    const queries = new QueryBudget(settings.http, clock, options.random)
    metrics.queries = queries
    const adminUrl = await startAdminApi(options, { registrations, queries, publicUrl }, parts)
    if (!options.gateway) return { ...address, adminUrl, stop }
    const { node, leaseMs } = options
    const gateways = new Gateways({ broker, clock, node, leaseMs, log })
    await gateways.start()
    parts.add(gateways)
    const { readStatus, cancel, readCounters, listMessages } = options
    const gateway = createGateway(
      {
        ...shared,
        keyring,
        registrations,
        queries,
        accessTokens: new AccessTokenVerifier(keyring, {
          ...settings.auth,
          issuer: tokenIssuersOf(settings.http, settings.auth),
        }),
        readStatus,
        cancel,
        readCounters,
        listMessages,
        streams: requiredStreams(options.split),
        rates: new RateLimits(settings.limits, clock, () => gateways.count()),
        auth: settings.auth,
        messages,
      },
      settings.http,
      options.bind,
    )
    parts.add(gateway)
    parts.add(async () => queries.close())
    Object.assign(address, await gateway.listen())
    return { ...address, adminUrl, stop }
  } catch (error) {
    return parts.abandon(error)
  }
}

/** Resolves with the address; null: the settings give the admin API no port. */
async function startAdminApi(
  { broker, keyring, split, readCounters, settings, bind, clock, log }: FrontEndOptions,
  { registrations, queries, publicUrl }: Pick<AdminContext, 'registrations' | 'queries' | 'publicUrl'>,
  parts: StopStack,
): Promise<string | null> {
  const { adminApi, auth, http, webhooks } = settings
  if (adminApi.port === 0) return null
  const administration = new Administration(broker, clock, auth)
  const feeds = new FeedAdministration({
    ...{ administration, broker, clock, split, settings: webhooks },
    secrets: () => keyring.secretsKeys,
  })
  const signIns = new FailedSignIns(new AuditLog(broker), clock, log)
  parts.add(signIns)
  const context = { administration, registrations, queries, feeds, readCounters, publicUrl, auth, clock, log, signIns }
  const server = createAdminServer(context, adminApi, http, bind)
  parts.add(server)
  return (await server.listen()).url
}

/** The streams without which this process cannot accept messages. */
function requiredStreams(split: number): string[] {
  const families = [messagesStream, queueStream, eventsStream]
  const indices = Array.from({ length: split }, (_, index) => index)
  return [
    ...families.flatMap((nameOf) => indices.map(nameOf)),
    BROADCAST_STREAM,
    EXPIRY_STREAM,
    SCHEDULE_STREAM,
    INGRESS_STREAM,
    DEAD_LETTERS_STREAM,
  ]
}
