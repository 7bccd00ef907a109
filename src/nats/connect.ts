/** The real Broker: one connection of one process to NATS. */
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
import { Link } from './client/link.js'
import { Reconnects } from './client/reconnects.js'
import type { Shared } from './client/shared.js'
import { Window } from './client/window.js'
import { NatsLog } from './log.js'
import { Room } from './server/headroom.js'
import type { NatsSettings } from './settings.js'
import { LogTable } from './table.js'
import { startTail } from './tail.js'

/** What is written about the connection; pino's loggers are one. */
export interface BrokerLogger {
  info(fields: object, text: string): void
  warn(fields: object, text: string): void
}

export interface ConnectOptions {
  /** Names the connection in the server's monitoring: `core`, `transport-0`, … */
  name: string
  log?: BrokerLogger
  /** Appends stop short of the limits of streams (room.ts): for who tells others that something is stored. */
  watchesRoom?: boolean
}

const FIRST_RETRY_MS = 200

/** One without JetStream of its own would pass questions on, to a cluster perhaps. */
export const isAlone = (info: { jetstream?: boolean; cluster?: string } | undefined): boolean =>
  info?.jetstream === true && !info.cluster

/** Answers of each user come under a prefix of its own, which its permissions name. */
export const inboxPrefixOf = (user: string): string => (user ? `_INBOX.${user}` : '_INBOX')

/**
 * Connects, waiting for the server up to `connectTimeoutMs`. Later the connection comes back by itself, for ever.
 * Throws BrokerError `unavailable`, with the cause, where there is no server or it refuses the user.
 */
export async function connect(settings: NatsSettings, options: ConnectOptions): Promise<Broker> {
  const nc = await firstConnection(settings, options)
  return new NatsBroker(nc, settings, options)
}

async function firstConnection(settings: NatsSettings, { name }: ConnectOptions): Promise<NatsConnection> {
  const deadlineMs = Date.now() + settings.connectTimeoutMs
  const address = settings.url.replace(/\/\/[^/@]*@/g, '//')
  for (;;) {
    try {
      return await natsConnect(optionsOf(settings, name))
    } catch (error) {
      const refused = error instanceof NatsError && /AUTH/i.test(error.code)
      if (refused || Date.now() + FIRST_RETRY_MS > deadlineMs) {
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
    // A user whose password is being changed is refused for a moment; giving up for good would need a restart.
    ignoreAuthErrorAbort: true,
  }
}

class NatsBroker implements Broker {
  readonly bus: Bus
  readonly #link: Link
  readonly #shared: Shared
  readonly #logs = new Map<string, Log>()
  readonly #tables = new Map<string, Table>()
  #closing = false

  constructor(
    readonly nc: NatsConnection,
    settings: NatsSettings,
    readonly options: ConnectOptions,
  ) {
    const report = (problem: string, error: unknown) => {
      options.log?.warn({ error: String(error), broker: options.name }, problem)
    }
    this.#link = new Link(nc, settings, inboxPrefixOf(settings.user), report)
    this.#shared = {
      link: this.#link,
      appends: new Window(settings.appendsInFlightMax, settings.appendsWaitingMax, settings.requestTimeoutMs),
      reconnects: new Reconnects(),
      room: options.watchesRoom ? new Room(this.#link, report) : null,
      // Asked each time: it may be another server after a reconnect.
      isAlone: () => isAlone(nc.info),
      report,
    }
    this.bus = new NatsBus(this.#link, report)
    void this.#follow()
    void nc.closed().then(() => this.#closed())
  }

  log(name: string): Log {
    return remembered(this.#logs, name, () => new NatsLog(name, this.#shared))
  }

  table(name: string): Table {
    return remembered(this.#tables, name, () => {
      const shared = this.#shared
      return new LogTable(name, {
        log: this.log(`KV_${name}`),
        tail: (options, handler, hooks) => startTail(shared, `KV_${name}`, options, handler, hooks),
        onStatus: (handler) => shared.reconnects.on(handler),
      })
    })
  }

  connected(): boolean {
    return this.#link.connected
  }

  onStatus(handler: (status: BrokerStatus) => void): Subscription {
    return this.#shared.reconnects.on(handler)
  }

  /** Sends what was published, then closes. What waits for an answer is rejected as `disconnected`. */
  async close(): Promise<void> {
    if (this.#closing) return
    this.#closing = true
    // Consumers and tails end first: each tells the server about itself while there is a connection.
    this.#shared.reconnects.emit('closed')
    this.#link.flush()
    if (this.#link.connected) await this.nc.flush().catch((error: unknown) => this.#shared.report('close', error))
    await this.nc.close()
    this.#closed()
  }

  #closed(): void {
    this.#link.stop()
    this.#shared.appends.refuseWaiting()
    if (this.#closing) return
    this.#closing = true
    this.options.log?.warn({ broker: this.options.name }, 'the connection to NATS was closed for good')
    this.#shared.reconnects.emit('closed')
  }

  async #follow(): Promise<void> {
    const { log, name: broker } = this.options
    for await (const status of this.nc.status()) {
      if (status.type === Events.Disconnect) {
        log?.warn({ broker, server: status.data }, 'disconnected from NATS')
        this.#link.connected = false
        this.#link.failAll()
        this.#shared.appends.refuseWaiting()
        this.#shared.reconnects.emit('disconnected')
      } else if (status.type === Events.Reconnect) {
        log?.info({ broker, server: status.data }, 'connected to NATS again')
        this.#link.connected = true
        this.#shared.reconnects.emit('reconnected')
      } else if (status.type === Events.Error) {
        log?.warn({ broker, error: status.data }, 'NATS reports an error')
      }
    }
  }
}

function remembered<T>(map: Map<string, T>, name: string, make: () => T): T {
  const known = map.get(name)
  if (known) return known
  const made = make()
  map.set(name, made)
  return made
}
