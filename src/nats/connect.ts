/** The Broker on a real nats-server: one connection for one process. */
import { type ConnectionOptions, Events, type NatsConnection, NatsError, connect as natsConnect } from 'nats'
import { sleep, systemClock } from '../clock.js'
import {
  type Broker,
  BrokerError,
  type BrokerStatus,
  type Bus,
  type Log,
  type Subscription,
  type Table,
} from './broker.js'
import { NatsBus } from './bus.js'
import type { Connection } from './client/connection.js'
import { StatusListeners } from './client/connection.js'
import { Link } from './client/link.js'
import { Window } from './client/window.js'
import { NatsLog } from './log.js'
import { Headroom } from './server/headroom.js'
import type { NatsSettings } from './settings.js'
import { LogTable } from './table.js'
import { startTail } from './tail.js'

/** Receives log lines about the connection. The loggers of pino fit. */
export interface BrokerLogger {
  info(fields: object, text: string): void
  warn(fields: object, text: string): void
}

export interface ConnectOptions {
  /** Names the connection in the server's monitoring: `core`, `transport-0`, … */
  name: string
  log?: BrokerLogger
  /**
   * Refuses appends before a stream reaches its limit (server/headroom.ts). For processes that promise others that a
   * message is stored.
   */
  keepsHeadroom?: boolean
  /** Default true. False for transports (ADR 28): tails then need a filter that this user may subscribe to. */
  mayCreateConsumers?: boolean
}

const FIRST_RETRY_MS = 200
/** A user without permissions would be refused every subject that it uses. */
const DENIED_MAX = 32

/** A server without JetStream, or in a cluster, may pass a read on to another server. */
export const isStandalone = (info: { jetstream?: boolean; cluster?: string } | undefined): boolean =>
  info?.jetstream === true && !info.cluster

/** The answers to each user have an inbox prefix of their own, because the permissions of the user name that prefix. */
export const inboxPrefixOf = (user: string): string => (user ? `_INBOX.${user}` : '_INBOX')

/**
 * Waits for the server for at most `connectTimeoutMs`. After the first connection, the client reconnects without limit.
 * Throws BrokerError `unavailable`, with the cause, if there is no server or the server refuses the user.
 */
export async function connect(settings: NatsSettings, options: ConnectOptions): Promise<Broker> {
  const nc = await firstConnection(settings, options)
  return new NatsBroker(nc, settings, options)
}

async function firstConnection(settings: NatsSettings, { name }: ConnectOptions): Promise<NatsConnection> {
  const deadlineMs = performance.now() + settings.connectTimeoutMs
  const address = settings.url.replace(/\/\/[^/@]*@/g, '//')
  for (;;) {
    try {
      return await natsConnect(optionsOf(settings, name))
    } catch (error) {
      const refused = error instanceof NatsError && /AUTH/i.test(error.code)
      if (refused || performance.now() + FIRST_RETRY_MS > deadlineMs) {
        const why = refused ? 'refuses this user or password' : `did not answer for ${settings.connectTimeoutMs} ms`
        throw new BrokerError('unavailable', `nats-server at ${address} ${why}`, 0, { cause: error })
      }
      await sleep(systemClock, FIRST_RETRY_MS)
    }
  }
}

function optionsOf(settings: NatsSettings, name: string): ConnectionOptions {
  return {
    servers: settings.url.split(','),
    name,
    ...(settings.user && { user: settings.user, pass: settings.password }),
    inboxPrefix: inboxPrefixOf(settings.user),
    timeout: Math.min(2_000, settings.connectTimeoutMs),
    reconnect: true,
    maxReconnectAttempts: -1,
    reconnectTimeWait: settings.reconnectWaitMs,
    reconnectJitter: settings.reconnectJitterMs,
    reconnectJitterTLS: settings.reconnectJitterMs,
    pingInterval: settings.pingIntervalMs,
    maxPingOut: 2,
    noAsyncTraces: true,
    // While the password of a user is being changed, the server refuses it for a moment. The client must not give up then.
    ignoreAuthErrorAbort: true,
  }
}

class NatsBroker implements Broker {
  readonly bus: Bus
  readonly #link: Link
  readonly #connection: Connection
  readonly #logs = new Map<string, Log>()
  readonly #tables = new Map<string, Table>()
  #closing = false
  readonly #denied = new Set<string>()

  constructor(
    readonly nc: NatsConnection,
    settings: NatsSettings,
    readonly options: ConnectOptions,
  ) {
    const report = (problem: string, error: unknown) => {
      options.log?.warn({ error: String(error), broker: options.name }, problem)
    }
    this.#link = new Link(nc, settings, inboxPrefixOf(settings.user), report)
    this.#connection = {
      link: this.#link,
      appends: new Window(settings.appendsInFlightMax, settings.appendsWaitingMax, settings.requestTimeoutMs),
      status: new StatusListeners(),
      mayCreateConsumers: options.mayCreateConsumers ?? true,
      headroom: options.keepsHeadroom ? new Headroom(this.#link, report) : null,
      // Evaluated on each call, because a reconnect may lead to another server.
      isStandalone: () => isStandalone(nc.info),
      report,
    }
    this.bus = new NatsBus(this.#link, report)
    void this.#follow()
    void nc.closed().then(() => this.#closed())
  }

  log(name: string): Log {
    return getOrCreate(this.#logs, name, () => new NatsLog(name, this.#connection))
  }

  table(name: string): Table {
    return getOrCreate(this.#tables, name, () => {
      const connection = this.#connection
      const log = this.log(`KV_${name}`)
      return new LogTable(name, {
        log,
        tail: (options, handler, hooks) => startTail(connection, log, options, handler, hooks),
        onStatus: (handler) => connection.status.on(handler),
      })
    })
  }

  connected(): boolean {
    return this.#link.connected
  }

  denied(): readonly string[] {
    return [...this.#denied]
  }

  async flush(): Promise<void> {
    this.#link.flush()
    await this.nc.flush()
    // The client hands errors on through an iterator, which runs after the answer to the flush.
    await new Promise((resolve) => setImmediate(resolve))
  }

  onStatus(handler: (status: BrokerStatus) => void): Subscription {
    return this.#connection.status.on(handler)
  }

  /** Sends everything that was published, then closes. Rejects pending requests with `disconnected`. */
  async close(): Promise<void> {
    if (this.#closing) return
    this.#closing = true
    // Consumers and tails stop first, because each of them sends a last message to the server.
    this.#connection.status.emit('closed')
    this.#link.flush()
    if (this.#link.connected) await this.nc.flush().catch((error: unknown) => this.#connection.report('close', error))
    await this.nc.close()
    this.#closed()
  }

  #closed(): void {
    this.#link.stop()
    this.#connection.appends.refuseWaiting()
    if (this.#closing) return
    this.#closing = true
    this.options.log?.warn({ broker: this.options.name }, 'the connection to NATS closed and will not come back')
    this.#connection.status.emit('closed')
  }

  async #follow(): Promise<void> {
    const { log, name: broker } = this.options
    for await (const status of this.nc.status()) {
      if (status.type === Events.Disconnect) {
        log?.warn({ broker, server: status.data }, 'disconnected from NATS')
        this.#link.connected = false
        this.#link.failAll()
        this.#connection.appends.refuseWaiting()
        this.#connection.status.emit('disconnected')
      } else if (status.type === Events.Reconnect) {
        log?.info({ broker, server: status.data }, 'reconnected to NATS')
        this.#link.connected = true
        this.#denied.clear()
        this.#connection.status.emit('reconnected')
      } else if (status.type === Events.Error && status.permissionContext) {
        const { operation, subject } = status.permissionContext
        const what = `${operation === 'subscription' ? 'subscribe' : operation} to ${subject}`
        if (this.#denied.has(what) || this.#denied.size >= DENIED_MAX) continue
        this.#denied.add(what)
        log?.warn({ broker, denied: what }, 'nats-server refuses a subject to the user of this process')
        this.#connection.status.emit('denied')
      } else if (status.type === Events.Error) {
        log?.warn({ broker, error: status.data }, 'NATS reports an error')
      }
    }
  }
}

function getOrCreate<T>(map: Map<string, T>, name: string, make: () => T): T {
  const known = map.get(name)
  if (known) return known
  const made = make()
  map.set(name, made)
  return made
}
