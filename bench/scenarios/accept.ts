/** Measures the cost of accepting a message: single and in batches over HTTP, and from NATS. No device is connected. */
import { join } from 'node:path'
import Type, { type Static } from 'typebox'
import { INGRESS_STREAM, ingressSubject, messagesStream } from '../../protocol/subjects.js'
import { sampleProject } from '../../src/cli/start/sample.js'
import { type Broker, BrokerError, type Log } from '../../src/nats/broker.js'
import { MESSAGE, TITLE } from '../content.js'
import { HttpLoad } from '../http-load.js'
import { type Ask, askAtRate, askMax } from '../loops.js'
import { LatencyMs, latencyMs, newHistogram } from '../measure/latency.js'
import { preloadEnvironment } from '../measure/preload.js'
import { cpuMicrosOf } from '../measure/processes.js'
import { significant } from '../measure/stats.js'
import { keepProfiles, Profiler } from '../profile/profiler.js'
import { type Bench, BenchError, defineScenario } from '../scenario.js'
import { accessToken, createTenant, newRun, registrationIdOf } from '../system/fleet.js'
import { LocalSystem, systemFolder } from '../system/local-system.js'

const Options = Type.Object({
  devices: Type.Integer({
    default: 5_000,
    minimum: 1,
    maximum: 1_000_000,
    description: 'number of devices that the messages address',
  }),
  seconds: Type.Integer({
    default: 8,
    minimum: 1,
    maximum: 600,
    description: 'seconds of each of the six measurements',
  }),
  sockets: Type.Integer({ default: 48, minimum: 1, maximum: 1_000, description: 'number of open HTTP requests' }),
  batch: Type.Integer({ default: 500, minimum: 1, maximum: 1_000, description: 'number of messages of one batch' }),
  batches: Type.Integer({ default: 6, minimum: 1, maximum: 64, description: 'number of open batches' }),
  window: Type.Integer({
    default: 1_000,
    minimum: 1,
    maximum: 2_048,
    description: 'number of unanswered records from NATS',
  }),
  routing: Type.Boolean({
    default: false,
    description: 'the core also routes and enqueues the messages, in the same process; all devices are away',
  }),
  profile: Type.String({
    default: '',
    description:
      'folder for a .cpuprofile of the core at the highest rate, one for each way; the profiler distorts the other figures',
  }),
})
type Options = Static<typeof Options>

const Side = Type.Object({
  acceptedPerSecond: Type.Number(),
  /** From the due time of a request to its answer (of a NATS record: to its PubAck), at half of the maximum rate. */
  latencyMs: LatencyMs,
  latencyRatePerSecond: Type.Number(),
  cpuMicrosPerMessage: Type.Object({ core: Type.Number(), nats: Type.Number() }),
  accepted: Type.Integer(),
  /** Accepted messages that are not in the store. */
  lost: Type.Integer(),
})
type Side = Static<typeof Side>

const Result = Type.Object({ single: Side, batch: Side, ingress: Side })
type Result = Static<typeof Result>

export const accept = defineScenario({
  name: 'accept',
  summary: 'messages that one core accepts a second, checked and stored: single POSTs, batches, and from NATS',
  options: Options,
  result: Result,
  run,
  show: (result) =>
    Object.entries(result).map(([way, side]) => ({
      way,
      'accepted/s': side.acceptedPerSecond,
      'p50 ms': side.latencyMs.p50,
      'p99 ms': side.latencyMs.p99,
      'core us': side.cpuMicrosPerMessage.core,
      'nats us': side.cpuMicrosPerMessage.nats,
      lost: side.lost,
    })),
})

interface Rig {
  system: LocalSystem
  admin: Broker
  publisher: Broker
  token: string
  registrations: readonly string[]
  /** Null without --profile. */
  profiler: Profiler | null
  profileFolder: string
}

const WARM_UP_SECONDS = 1
const POLL_MS = 20
const ACCEPTED_MS_MAX = 60_000

async function run(bench: Bench, options: Options): Promise<Result> {
  const rig = await start(bench, options)
  const { system, token } = rig
  const at = (path: string) => ({
    host: '127.0.0.1',
    port: system.config.http.port,
    token,
    path: `/push/public/api/v1/projects/${sampleProject}/${path}`,
  })
  const single = new HttpLoad(at('messages'), options.sockets)
  const batches = new HttpLoad(at('messages:batch'), options.batches)
  bench.defer(() => {
    single.stop()
    batches.stop()
  })
  const bodyOf = messages(rig.registrations)
  const log = rig.publisher.log(INGRESS_STREAM)
  const one: Ask = async () => checked(await single.post(bodyOf()), 1)
  const many: Ask = async () => {
    const body = `{"messages":[${Array.from({ length: options.batch }, bodyOf).join(',')}]}`
    return checked(await batches.post(body), options.batch)
  }
  const published: Ask = async () => {
    const body = Buffer.from(bodyOf())
    while (!(await publish(log, body))) await new Promise((resolve) => setTimeout(resolve, POLL_MS))
    return 1
  }
  return {
    single: await measure(bench, rig, 'single', one, 1, options.sockets, options.seconds),
    batch: await measure(bench, rig, 'batch', many, options.batch, options.batches, options.seconds),
    ingress: await measure(bench, rig, 'ingress', published, 1, options.window, options.seconds),
  }
}

async function start(bench: Bench, options: Options): Promise<Rig> {
  const { routing, profile } = options
  const profiler = profile === '' ? null : new Profiler(join(bench.folder, 'profiles'))
  const system = await LocalSystem.start({
    folder: systemFolder(bench.folder),
    parts: ['core'],
    ...(profiler && { environment: preloadEnvironment(profiler) }),
    settings: {
      core: { routing, expiring: routing, settling: routing, counting: routing },
      // The limit of the rate is raised, not switched off, so that its cost is measured as well.
      limits: { messagesPerSecond: 1_000_000, requestsPerSecond: 1_000_000 },
    },
    onLine: (part, line) => {
      if (/"level":"(warn|error|fatal)"/.test(line)) bench.progress.say(`${part}: ${line}`)
    },
    onNotice: (text) => bench.progress.say(text),
  })
  bench.defer(() => system.stop())
  const broker = await system.brokerAs('core')
  const fleet = await createTenant(broker, newRun(), sampleProject)
  const registrations = Array.from({ length: options.devices }, (_, index) => registrationIdOf(system, fleet, index))
  return {
    system,
    admin: await system.brokerAs('admin'),
    publisher: await system.brokerAs('publisher'),
    token: await accessToken(system, broker, fleet),
    registrations,
    profiler,
    profileFolder: profile,
  }
}

async function measure(
  bench: Bench,
  rig: Rig,
  name: string,
  ask: Ask,
  size: number,
  window: number,
  seconds: number,
): Promise<Side> {
  bench.progress.say(`${name}: at the highest rate`)
  await askMax(ask, window, WARM_UP_SECONDS)
  await untilAccepted(rig)
  const corePids = rig.system.pids('core')
  await rig.profiler?.start(corePids)
  const storedBefore = await stored(rig)
  const cpu = cpuOf(rig)
  const startedAtMs = performance.now()
  const max = await askMax(ask, window, seconds)
  // A record in INGRESS is not accepted yet.
  await untilAccepted(rig)
  const acceptedPerSecond = max.accepted / ((performance.now() - startedAtMs) / 1000)
  const { core, nats } = cpuOf(rig)
  if (rig.profiler) await keepProfiles(rig.profileFolder, name, await rig.profiler.stop(corePids))
  const rate = Math.max(1, acceptedPerSecond / 2)
  bench.progress.say(`${name}: ${Math.round(acceptedPerSecond)} a second; measuring latencies at half of that rate`)
  const latencies = newHistogram()
  const half = await askAtRate(ask, rate / size, seconds, latencies)
  await untilAccepted(rig)
  const accepted = max.accepted + half.accepted
  return {
    acceptedPerSecond: Math.round(acceptedPerSecond),
    latencyMs: latencyMs(latencies),
    latencyRatePerSecond: Math.round(rate),
    cpuMicrosPerMessage: {
      core: significant((core - cpu.core) / max.accepted),
      nats: significant((nats - cpu.nats) / max.accepted),
    },
    accepted,
    lost: accepted - ((await stored(rig)) - storedBefore),
  }
}

function cpuOf({ system }: Rig): { core: number; nats: number } {
  return { core: cpuMicrosOf(system.pids('core')), nats: cpuMicrosOf(system.pids('nats')) }
}

/** Number of messages that were ever appended to MESSAGES, also those that were routed since. */
async function stored({ system, admin }: Rig): Promise<number> {
  const names = Array.from({ length: system.config.store.split }, (_, index) => messagesStream(index))
  const states = await Promise.all(names.map((name) => admin.log(name).state()))
  return states.reduce((sum, { lastSequence }) => sum + lastSequence, 0)
}

/** False: INGRESS is full, because the core is slower than the publisher. A publisher then waits and repeats. */
async function publish(log: Log, body: Uint8Array): Promise<boolean> {
  try {
    await log.append(ingressSubject(sampleProject), body)
    return true
  } catch (error) {
    if (error instanceof BrokerError && error.code === 'full') return false
    throw error
  }
}

async function untilAccepted({ admin }: Rig): Promise<void> {
  const deadlineMs = performance.now() + ACCEPTED_MS_MAX
  while ((await admin.log(INGRESS_STREAM).state()).messages > 0) {
    if (performance.now() > deadlineMs) throw new BenchError('the core does not accept the records of NATS publishers')
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}

/** Makes the bodies of messages. Their targets go round the devices. */
function messages(registrations: readonly string[]): () => string {
  const rest = JSON.stringify({
    type: 'device',
    ttl: '1h',
    notification: { title: TITLE, message: MESSAGE, data: { mtype: 'notify', order: 4_711 } },
  }).slice(1)
  let next = 0
  return () => `{"target":"${registrations[next++ % registrations.length]}",${rest}`
}

function checked({ status, body }: { status: number; body: string }, size: number): number {
  if (status !== 202) throw new BenchError(`the service answered a message with ${status}: ${body.slice(0, 500)}`)
  return size
}
