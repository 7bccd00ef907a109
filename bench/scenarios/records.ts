/** Measures the size of each record that a message leaves in the store, as nats-server counts it. No device is connected. */
import Type, { type Static } from 'typebox'
import { BROADCAST_STREAM, EXPIRY_STREAM, eventsStream, queueStream, SCHEDULE_STREAM } from '../../protocol/subjects.js'
import { sampleProject } from '../../src/cli/start/sample.js'
import type { Broker } from '../../src/nats/broker.js'
import { MESSAGE, TITLE } from '../content.js'
import { significant } from '../measure/stats.js'
import { type Bench, BenchError, defineScenario } from '../scenario.js'
import { accessToken, createTenant, newRun, registrationIdOf } from '../system/fleet.js'
import { LocalSystem, systemFolder } from '../system/local-system.js'

const Options = Type.Object({
  messages: Type.Integer({ default: 500, minimum: 10, maximum: 50_000, description: 'messages of each kind' }),
})
type Options = Static<typeof Options>

const Result = Type.Object({
  /** Bytes of one record, with its subject and the overhead of nats-server. */
  bytes: Type.Object({
    /** The `accepted` event and the step `queued` in EVENTS. */
    acceptedAndQueued: Type.Number(),
    final: Type.Number(),
    /** An idempotency key. */
    key: Type.Number(),
    queued: Type.Number(),
    expiry: Type.Number(),
    scheduled: Type.Number(),
    broadcast: Type.Number(),
    /** The event of a group message. */
    group: Type.Number(),
  }),
  /** Title, text and attributes of each message. */
  contentBytes: Type.Integer(),
})
type Result = Static<typeof Result>

export const records = defineScenario({
  name: 'records',
  summary: 'bytes of each record that a message leaves in the store: the basis of the disk that an installation needs',
  options: Options,
  result: Result,
  run,
  show: ({ bytes }) => Object.entries(bytes).map(([record, size]) => ({ record, bytes: size })),
})

type Family = 'EVENTS' | 'QUEUE' | 'EXPIRY' | 'SCHEDULE' | 'BROADCAST'

const DATA = { mtype: 'notify', order: 4_711 }
const POLL_MS = 50
const SETTLED_MS_MAX = 60_000
const AT_ONCE = 16

interface Rig {
  system: LocalSystem
  admin: Broker
  token: string
  registrations: readonly string[]
}

async function run(bench: Bench, { messages }: Options): Promise<Result> {
  const rig = await start(bench, messages)
  const { registrations } = rig
  const unicast = (index: number) => ({ type: 'device', target: registrations[index], ttl: '1h' })
  const inDays = new Date(Date.now() + 86_400_000).toISOString()

  const before = await sizes(rig)
  const ids = await each(messages, (index) => post(rig, unicast(index)))
  const queued = await settled(rig, (at) => at.QUEUE.records - before.QUEUE.records === messages)
  await each(messages, (index) => cancel(rig, ids[index] ?? ''))
  const ended = await settled(rig, (at) => at.QUEUE.records === before.QUEUE.records)
  await each(messages, (index) => post(rig, { ...unicast(index), notBefore: inDays }))
  const scheduled = await sizes(rig)
  const group = { type: 'topic', target: 'bench', ttl: '1h' }
  await each(messages, () => post(rig, group))
  const grouped = await sizes(rig)
  // The last ones, because a key stands beside the events of its message.
  await each(messages, (index) => post(rig, unicast(index), `key-${index}`))
  const keyed = await settled(rig, (at) => at.QUEUE.records - grouped.QUEUE.records === messages)

  const grown = (family: Family, from: Sizes, to: Sizes) => (to[family].bytes - from[family].bytes) / messages
  const acceptedAndQueued = grown('EVENTS', before, queued)
  const round = (value: number) => significant(value)
  return {
    bytes: {
      acceptedAndQueued: round(acceptedAndQueued),
      final: round(grown('EVENTS', queued, ended)),
      key: round(grown('EVENTS', grouped, keyed) - acceptedAndQueued),
      queued: round(grown('QUEUE', before, queued)),
      expiry: round(grown('EXPIRY', before, queued)),
      scheduled: round(grown('SCHEDULE', ended, scheduled)),
      broadcast: round(grown('BROADCAST', scheduled, grouped)),
      group: round(grown('EVENTS', scheduled, grouped)),
    },
    contentBytes: TITLE.length + MESSAGE.length + JSON.stringify(DATA).length,
  }
}

async function start(bench: Bench, devices: number): Promise<Rig> {
  const system = await LocalSystem.start({
    folder: systemFolder(bench.folder),
    parts: ['core'],
    settings: { limits: { messagesPerSecond: 1_000_000, requestsPerSecond: 1_000_000 } },
    onNotice: (text) => bench.progress.say(text),
  })
  bench.defer(() => system.stop())
  const broker = await system.brokerAs('core')
  const fleet = await createTenant(broker, newRun(), sampleProject)
  const registrations = Array.from({ length: devices }, (_, index) => registrationIdOf(system, fleet, index))
  const token = await accessToken(system, broker, fleet)
  return { system, admin: await system.brokerAs('admin'), token, registrations }
}

type Sizes = Record<Family, { records: number; bytes: number }>

async function sizes({ admin, system }: Rig): Promise<Sizes> {
  const split = Array.from({ length: system.config.store.split }, (_, index) => index)
  const of = async (names: string[]) => {
    const states = await Promise.all(names.map((name) => admin.log(name).state()))
    const sum = (field: 'messages' | 'bytes') => states.reduce((total, state) => total + state[field], 0)
    return { records: sum('messages'), bytes: sum('bytes') }
  }
  return {
    EVENTS: await of(split.map(eventsStream)),
    QUEUE: await of(split.map(queueStream)),
    EXPIRY: await of([EXPIRY_STREAM]),
    SCHEDULE: await of([SCHEDULE_STREAM]),
    BROADCAST: await of([BROADCAST_STREAM]),
  }
}

/** The sizes once they are as expected and stand still: the trace of a message is written beside its queue. */
async function settled(rig: Rig, isDone: (at: Sizes) => boolean): Promise<Sizes> {
  const deadlineMs = performance.now() + SETTLED_MS_MAX
  let last = await sizes(rig)
  while (performance.now() < deadlineMs) {
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
    const now = await sizes(rig)
    if (isDone(now) && now.EVENTS.bytes === last.EVENTS.bytes) return now
    last = now
  }
  throw new BenchError('the messages were not routed in time')
}

async function post(rig: Rig, message: object, key?: string): Promise<string> {
  const notification = { title: TITLE, message: MESSAGE, data: DATA }
  const body = JSON.stringify({ ...message, notification })
  const headers = { 'content-type': 'application/json', ...(key && { 'idempotency-key': key }) }
  const { id } = (await call(rig, 'messages', { method: 'POST', body, headers })) as { id: string }
  return id
}

async function cancel(rig: Rig, id: string): Promise<void> {
  await call(rig, `messages/${id}`, { method: 'DELETE' })
}

async function call({ system, token }: Rig, path: string, init: RequestInit): Promise<unknown> {
  const url = `${system.httpUrl}/push/public/api/v1/projects/${sampleProject}/${path}`
  const response = await fetch(url, { ...init, headers: { ...init.headers, authorization: `Bearer ${token}` } })
  const text = await response.text()
  if (!response.ok) throw new BenchError(`the service answered ${response.status}: ${text.slice(0, 500)}`)
  return text === '' ? null : JSON.parse(text)
}

/** Runs the work for 0, 1, ... with some at once, and resolves with all results in order. */
async function each<T>(count: number, work: (index: number) => Promise<T>): Promise<T[]> {
  const results: T[] = []
  let next = 0
  const lane = async () => {
    for (let index = next++; index < count; index = next++) results[index] = await work(index)
  }
  await Promise.all(Array.from({ length: AT_ONCE }, lane))
  return results
}
