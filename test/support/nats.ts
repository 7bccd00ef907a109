/** Starts a nats-server for one test, on a port and in a folder of its own, with the product's permissions and streams. */
import { randomBytes } from 'node:crypto'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { Value } from 'typebox/value'
import type { Broker } from '../../src/nats/broker.js'
import { type ConnectOptions, connect } from '../../src/nats/connect.js'
import type { NatsUser } from '../../src/nats/server/permissions.js'
import { type NatsServer, startNatsServer } from '../../src/nats/server/server-process.js'
import { ensureStreams } from '../../src/nats/server/streams.js'
import { NatsSettings, StoreSettings } from '../../src/nats/settings.js'

export type TestRole =
  | 'core'
  | 'transport'
  | 'legacyTransport'
  | 'admin'
  | 'publisher'
  | 'subscriber'
  | 'unrestricted'
  /** The transport of one instance, for an instance that the options name. */
  | `transport-${string}`

export interface TestNatsOptions {
  store?: Partial<StoreSettings>
  nats?: Partial<NatsSettings>
  /** Instances whose transports have a user and an account of their own. */
  instances?: string[]
  /** Whether startNats creates the streams and buckets before it resolves. Default: true. */
  streams?: boolean
}

export interface TestNats {
  readonly url: string
  /** The server keeps its data in the folder `jetstream/` in here. */
  readonly dataDir: string
  readonly server: NatsServer
  readonly store: StoreSettings
  /** The settings for code that connects by itself in that role. */
  settingsAs(role: TestRole): NatsSettings
  /**
   * Opens a connection in that role and closes it at the end of the test. Publishers and subscribers belong to
   * PUBLISHER_PROJECT. `url` replaces the server's own address, for a connection through a proxy.
   */
  brokerAs(role: TestRole, name?: string, url?: string, options?: Partial<ConnectOptions>): Promise<Broker>
  /** Stops the server in order and starts it again on the same port and data. */
  restart(): Promise<void>
  kill9(): Promise<void>
  start(): Promise<void>
  stop(): Promise<void>
}

export const PUBLISHER_PROJECT = 'acme'

// An exit handler ends the nats-server, but a process that a signal kills runs no exit handlers. So the signals become
// exits. tap ends a file that takes too long with SIGALRM.
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGALRM'] as const) process.once(signal, () => process.exit(1))

const MIB = 1024 * 1024
const SMALL = {
  messagesBytesMax: 64 * MIB,
  queueBytesMax: 64 * MIB,
  eventsBytesMax: 64 * MIB,
  broadcastBytesMax: 64 * MIB,
  expiryBytesMax: 64 * MIB,
  ingressBytesMax: 64 * MIB,
  deadLettersBytesMax: 16 * MIB,
  outcomeEventsBytesMax: 16 * MIB,
  auditBytesMax: 16 * MIB,
  tableBytesMax: 64 * MIB,
  smallTableBytesMax: 16 * MIB,
}

export async function startNats(t: Pick<Test, 'teardown'>, options: TestNatsOptions = {}): Promise<TestNats> {
  const dataDir = mkdtempSync(join(tmpdir(), 'borealis-nats-'))
  const store = { ...Value.Create(StoreSettings), ...SMALL, ...options.store }
  const password = randomBytes(12).toString('hex')
  const users: NatsUser[] = [
    { role: 'core', user: 'core', password },
    { role: 'transport', user: 'transport', password },
    { role: 'legacyTransport', user: 'legacyTransport', password },
    { role: 'admin', user: 'admin', password },
    { role: 'unrestricted', user: 'unrestricted', password },
    { role: 'publisher', user: 'publisher', password, project: PUBLISHER_PROJECT },
    { role: 'subscriber', user: 'subscriber', password, project: PUBLISHER_PROJECT },
    ...(options.instances ?? []).map((instance) => {
      return { role: 'transport' as const, user: `transport-${instance}`, password, instance }
    }),
  ]
  const server = await startNatsServer({ dataDir, users, split: store.split })
  const brokers: Broker[] = []
  t.teardown(async () => {
    await Promise.all(brokers.map((broker) => broker.close()))
    await server.stop()
    rmSync(dataDir, { recursive: true, force: true })
  })

  const settingsAs = (role: TestRole): NatsSettings => ({
    ...Value.Create(NatsSettings),
    url: server.url,
    user: role,
    password,
    // Shorter than the defaults of the service, so that tests reconnect at once.
    reconnectWaitMs: 50,
    reconnectJitterMs: 20,
    ...options.nats,
  })
  const brokerAs: TestNats['brokerAs'] = async (role, name = role, url = server.url, options = {}) => {
    const mayCreateConsumers = !/^transport/.test(role)
    const broker = await connect({ ...settingsAs(role), url }, { name, mayCreateConsumers, ...options })
    brokers.push(broker)
    return broker
  }
  if (options.streams !== false) {
    const admin = await brokerAs('admin', 'setup')
    await ensureStreams(admin.bus, store)
    await admin.close()
  }
  return {
    url: server.url,
    dataDir,
    server,
    store,
    settingsAs,
    brokerAs,
    restart: async () => {
      await server.stop()
      await server.start()
    },
    kill9: () => server.kill9(),
    start: () => server.start(),
    stop: () => server.stop(),
  }
}

/** Removes the records of a stream of a stopped server. Its consumers keep their positions. */
export function loseRecords(dataDir: string, stream: string): void {
  const [account = ''] = readdirSync(join(dataDir, 'jetstream'))
  rmSync(join(dataDir, 'jetstream', account, 'streams', stream, 'msgs'), { recursive: true })
}
