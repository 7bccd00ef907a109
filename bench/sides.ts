/**
 * A side of a comparison: a server, its devices, and the ways to push to them. Ours and every baseline have the same
 * interface, so that the same code measures all of them.
 */
import { connect } from 'nats'
import { DEVICE_PATH } from '../protocol/frame.js'
import { MessageIdSource } from '../protocol/message-id.js'
import { Keyring } from '../src/keyring.js'
import { BroadcastLog } from '../src/store/broadcast.js'
import { type BaselineKind, type BaselineServer, bareDevices, startBaseline } from './baselines/bare.js'
import { BareFeed } from './baselines/bare-feed.js'
import { BROADCAST_SUBJECT } from './baselines/feed.js'
import { startPlainNats } from './baselines/plain-nats.js'
import { groupBody, groupFrame } from './content.js'
import { type Feed, Sequences } from './drive.js'
import { Generators } from './generator/generators.js'
import type { MemoryProbe } from './measure/memory-probe.js'
import { preloadEnvironment } from './measure/preload.js'
import type { Profiler } from './profile/profiler.js'
import { BenchRouter } from './router.js'
import { type Bench, BenchError } from './scenario.js'
import { createTenant, locate, newRun, registerDevices } from './system/fleet.js'
import { devicesOf, startTransport, type TransportRig } from './system/transport-only.js'

export interface Side {
  name: string
  version: string
  connections: number
  devices: Generators
  /** Processes that hold the connections of devices. */
  serverPids: number[]
  /** Reads their memory without garbage; absent for brokers, which cannot collect it on demand. */
  memoryProbe?: MemoryProbe | undefined
  /** Other processes of the server: the store or the bus behind it. */
  behindPids: number[]
  /** Opens the feed of messages to single devices, after they have connected. */
  feed(): Promise<Feed>
  /** Sends a message to all devices. Resolves when the server has it. Sequences begin at 0. */
  broadcast(sequence: number, micros: number): Promise<unknown>
  /** Prepares the devices for a kind of message: they acknowledge unicast messages only. */
  behave(kind: 'unicast' | 'broadcast'): Promise<void>
  /** Sequence numbers of messages to single devices. */
  sequences: Sequences
  /** Sequence numbers of messages to all devices. */
  groupSequences: Sequences
}

export interface SideOptions {
  connections: number
  /** Least number of generator processes. */
  generators: number
  /** Number of workers; 0: as many as the connections need. */
  workers: number
  /** Starts the servers with this probe of their memory. */
  memoryProbe?: MemoryProbe
  /** Starts the servers with this profiler. Not together with `memoryProbe`. */
  profiler?: Profiler
}

const TOPIC = 'bench'

export const newSequences = () => ({ sequences: new Sequences(), groupSequences: new Sequences() })

/** Our side: a transport. Bench stands in for the core. */
export async function borealisSide(
  bench: Bench,
  options: SideOptions & { registered: boolean },
): Promise<Side & { rig: TransportRig; router(): BenchRouter }> {
  const { connections, generators, registered, memoryProbe, profiler } = options
  const preload = memoryProbe ?? profiler
  const rig = await startTransport(bench, { ...options, ...(preload && { environment: preloadEnvironment(preload) }) })
  const tenant = registered ? await createTenant(rig.broker, rig.run) : null
  if (tenant) await registerDevices(rig.broker, tenant, { count: connections, topics: [TOPIC] })
  const devices = await devicesOf(bench, rig, { connections, processes: generators })
  await devices.prepare()
  const log = new BroadcastLog(rig.broker)
  const ids = new MessageIdSource(0, () => Date.now())
  let router: BenchRouter | null = null
  return {
    name: 'borealis',
    version: '',
    rig,
    devices,
    connections,
    memoryProbe,
    ...newSequences(),
    serverPids: rig.system.pids('worker'),
    behindPids: [...rig.system.pids('nats'), ...rig.system.pids('transport')],
    feed: async () => {
      router = new BenchRouter(rig.broker, rig.run, await locate(rig.broker, rig, connections))
      bench.defer(() => router?.stop())
      return router
    },
    router: () => {
      if (!router) throw new BenchError('the feed is not open')
      return router
    },
    broadcast: (sequence, micros) => {
      if (!tenant) throw new BenchError('these devices are in no group')
      const { project } = tenant
      const id = ids.next(0)
      const acceptedAtMs = Date.now()
      const target = { kind: 'topic', name: TOPIC } as const
      return log.append({
        id,
        project,
        ...target,
        acceptedAtMs,
        expiresAtMs: acceptedAtMs + 3_600_000,
        collapseKey: '',
        body: groupBody(id, project, target, sequence, micros),
      })
    },
    // Our devices acknowledge unicast messages only anyway.
    behave: async () => undefined,
  }
}

/** A baseline: bare uWebSockets.js, or a server on `ws` with our protocol. It gets its messages over its own NATS. */
export async function baselineSide(bench: Bench, kind: BaselineKind, options: SideOptions): Promise<Side> {
  const { connections, generators, memoryProbe, profiler } = options
  const nats = await startPlainNats(bench)
  const server = await startBaseline(bench, kind, { natsUrl: nats.url, topic: true }, memoryProbe ?? profiler)
  const devices = await baselineDevices(bench, kind, server, connections, generators)
  const publisher = await connect({ servers: nats.url, noAsyncTraces: true })
  bench.defer(() => publisher.close())
  return {
    name: kind === 'uws' ? 'bare uWebSockets.js' : 'ws',
    version: '',
    devices,
    memoryProbe,
    connections: devices.connections,
    ...newSequences(),
    serverPids: [server.pid],
    behindPids: [nats.pid],
    feed: () => BareFeed.open(bench, nats.url),
    // One message at a time, as on our side: uWebSockets.js would join several in one packet into fewer writes.
    broadcast: async (sequence, micros) => {
      publisher.publish(BROADCAST_SUBJECT, groupFrame(sequence, micros))
      await publisher.flush()
    },
    behave: (kind) => devices.behave({ acknowledge: kind === 'unicast' }),
  }
}

async function baselineDevices(
  bench: Bench,
  kind: BaselineKind,
  server: BaselineServer,
  connections: number,
  processes: number,
): Promise<Generators> {
  const options = { connections, processes, keepaliveMs: 0 }
  if (kind === 'uws') return bareDevices(bench, server, options)
  // This server does not check tokens, so any key makes tokens of the right size.
  const signing = { ...Keyring.generate(Date.now()).signingKey('deviceToken'), issuer: 'bench' }
  const target = { host: '127.0.0.1', port: server.port, path: DEVICE_PATH }
  const dialect = { kind: 'borealis', run: newRun(), signing } as const
  const devices = await Generators.start({ target, dialect, ...options }, bench.progress)
  bench.defer(() => devices.stop())
  await devices.prepare()
  return devices
}
