/** Every stream and bucket of protocol/subjects.ts, as it should be on the server, and the way to get it there. */
import {
  AUDIT_STREAM,
  BROADCAST_STREAM,
  Bucket,
  DEAD_LETTERS_STREAM,
  EXPIRY_STREAM,
  eventsStream,
  INGRESS_STREAM,
  messagesStream,
  OUTCOME_EVENTS_STREAM,
  queueStream,
  REGISTRATIONS_STREAM,
  SCHEDULE_STREAM,
  splitFilters,
} from '../../../protocol/subjects.js'
import { BrokerError, type Bus } from '../broker.js'
import { type ApiError, brokerErrorOf, nanos, textOf } from '../client/jetstream-api.js'
import type { StoreSettings } from '../settings.js'

export interface StreamDefinition {
  name: string
  subjects: string[]
  /** `work`: a record vanishes when its one consumer acknowledged it. `keep`: until it is deleted or too old. */
  retention: 'work' | 'keep'
  bytesMax: number
  /** 0: as many as the bytes allow. */
  recordsMax: number
  /** Body and headers of one record; 0: what the server takes. */
  recordBytesMax: number
  /** 0: for ever. */
  ageMs: number
  /** 0: no limit; beyond it the oldest of the subject gives way. 1 in buckets: the last value of a key. */
  perSubjectMax: number
  /** `refuse` what does not fit, or let the oldest `giveWay`. */
  whenFull: 'refuse' | 'giveWay'
  duplicateWindowMs: number
  bucket: boolean
}

/** EVENTS, QUEUE and the rest append by compare-and-set: only a short memory of message ids is needed, and it costs. */
const SHORT_WINDOW_MS = 1_000
const API_TIMEOUT_MS = 10_000
/**
 * Longer than any client assertion is good: ten minutes at most, and a minute of difference between clocks at each end.
 * What is gone from the bucket by then is refused as expired.
 */
const ASSERTIONS_AGE_MS = 15 * 60_000
/** Subject and the server's own of a record, generously. */
export const RECORD_OVERHEAD_BYTES = 512
/** Buckets with an entry for each device. */
const LARGE_BUCKETS = new Set<string>([Bucket.DEVICES, Bucket.SESSIONS])
const NAME_IN_USE = 10058

export function streamDefinitions(store: StoreSettings): StreamDefinition[] {
  const base = {
    retention: 'keep',
    recordsMax: 0,
    recordBytesMax: 0,
    ageMs: 0,
    perSubjectMax: 0,
    whenFull: 'refuse',
    duplicateWindowMs: SHORT_WINDOW_MS,
    bucket: false,
  } as const
  const window = store.duplicateWindowMs
  const streams: StreamDefinition[] = []
  for (let i = 0; i < store.split; i++) {
    const of = (family: string) => splitFilters(family, i, store.split)
    streams.push(
      {
        ...base,
        name: messagesStream(i),
        subjects: of('msg'),
        retention: 'work',
        bytesMax: store.messagesBytesMax,
        duplicateWindowMs: window,
      },
      { ...base, name: queueStream(i), subjects: of('queued'), bytesMax: store.queueBytesMax },
      {
        ...base,
        name: eventsStream(i),
        subjects: of('event'),
        bytesMax: store.eventsBytesMax,
        ageMs: store.eventsAgeMs,
      },
    )
  }
  streams.push(
    {
      ...base,
      name: BROADCAST_STREAM,
      subjects: ['broadcast.>'],
      bytesMax: store.broadcastBytesMax,
      ageMs: store.broadcastAgeMs,
      duplicateWindowMs: window,
    },
    { ...base, name: EXPIRY_STREAM, subjects: ['expiry.>'], bytesMax: store.expiryBytesMax },
    { ...base, name: SCHEDULE_STREAM, subjects: ['schedule.>'], bytesMax: store.scheduleBytesMax },
    {
      ...base,
      name: INGRESS_STREAM,
      subjects: ['push.send.*'],
      retention: 'work',
      bytesMax: store.ingressBytesMax,
      recordsMax: ingressRecordsMax(store),
      recordBytesMax: store.ingressRecordBytes,
      duplicateWindowMs: window,
    },
    {
      ...base,
      name: DEAD_LETTERS_STREAM,
      subjects: ['push.dead.*'],
      bytesMax: store.deadLettersBytesMax,
      ageMs: store.deadLettersAgeMs,
      whenFull: 'giveWay',
    },
    {
      ...base,
      name: OUTCOME_EVENTS_STREAM,
      subjects: ['push.event.*.*'],
      bytesMax: store.outcomeEventsBytesMax,
      ageMs: store.outcomeEventsAgeMs,
      // So that what a busy project has too much of is its own that gives way.
      perSubjectMax: store.outcomeEventsPerKindMax,
      whenFull: 'giveWay',
      duplicateWindowMs: window,
    },
    {
      ...base,
      name: AUDIT_STREAM,
      subjects: ['audit.*'],
      bytesMax: store.auditBytesMax,
      ageMs: store.auditAgeMs,
      whenFull: 'giveWay',
    },
    {
      ...base,
      name: REGISTRATIONS_STREAM,
      subjects: ['reg.>'],
      bytesMax: store.tableBytesMax,
      perSubjectMax: 1,
    },
  )
  for (const name of Object.values(Bucket)) {
    streams.push({
      ...base,
      name: `KV_${name}`,
      subjects: [`$KV.${name}.>`],
      bytesMax: LARGE_BUCKETS.has(name) ? store.tableBytesMax : store.smallTableBytesMax,
      ageMs: name === Bucket.ASSERTIONS ? ASSERTIONS_AGE_MS : 0,
      perSubjectMax: 1,
      bucket: true,
    })
  }
  return streams
}

/**
 * How many records INGRESS takes: so few that its bytes can never be used up. Publishers write to it themselves, so nobody stops
 * short of its limit for them (room.ts), and near a limit of bytes nats-server 2.9 removes what it said is stored. Records
 * it counts exactly: the one too many is refused.
 */
function ingressRecordsMax({ ingressBytesMax, ingressRecordBytes }: StoreSettings): number {
  return Math.max(1, Math.floor(ingressBytesMax / (ingressRecordBytes + RECORD_OVERHEAD_BYTES)))
}

/**
 * Makes what is missing and updates what may be updated; safe to run at every start, by several processes at once.
 * Throws BrokerError `unavailable` that names the stream and what cannot be changed.
 */
export async function ensureStreams(bus: Bus, store: StoreSettings): Promise<void> {
  for (const definition of streamDefinitions(store)) await ensureStream(bus, definition, store)
}

async function ensureStream(bus: Bus, definition: StreamDefinition, store: StoreSettings): Promise<void> {
  const { name } = definition
  const config = serverConfig(definition, store)
  const refusal = await api(bus, `STREAM.CREATE.${name}`, config)
  if (!refusal.error) return
  if (refusal.error.err_code !== NAME_IN_USE) throw brokerErrorOf(refusal.error, `stream ${name}`)
  const present = await api(bus, `STREAM.INFO.${name}`, {})
  const subjects = present.config?.subjects ?? []
  if ([...subjects].sort().join() !== [...definition.subjects].sort().join()) {
    throw new BrokerError(
      'unavailable',
      `stream ${name} has other subjects on the server: store.split cannot change once there is data`,
    )
  }
  // It tells that the stream was restored, and so which log it is (snapshot.ts).
  const { description } = present.config ?? {}
  const update = await api(bus, `STREAM.UPDATE.${name}`, { ...config, ...(description && { description }) })
  if (update.error) throw brokerErrorOf(update.error, `stream ${name} cannot be changed to these settings`)
}

interface ApiAnswer {
  error?: ApiError
  config?: { subjects?: string[]; description?: string }
}

async function api(bus: Bus, verb: string, query: object): Promise<ApiAnswer> {
  const body = Buffer.from(JSON.stringify(query))
  const answer = await bus.request(`$JS.API.${verb}`, body, { timeoutMs: API_TIMEOUT_MS })
  return JSON.parse(textOf(answer)) as ApiAnswer
}

function serverConfig(definition: StreamDefinition, store: StoreSettings): object {
  return {
    name: definition.name,
    subjects: definition.subjects,
    retention: definition.retention === 'work' ? 'workqueue' : 'limits',
    storage: store.storage,
    num_replicas: store.replicas,
    discard: definition.whenFull === 'refuse' ? 'new' : 'old',
    max_bytes: definition.bytesMax,
    max_age: nanos(definition.ageMs),
    max_msgs: definition.recordsMax || -1,
    max_msg_size: definition.recordBytesMax || -1,
    max_consumers: -1,
    max_msgs_per_subject: definition.perSubjectMax || -1,
    duplicate_window: nanos(definition.duplicateWindowMs),
    allow_direct: true,
    // As NATS tools make a bucket, so that they take these for one.
    ...(definition.bucket && { deny_delete: true, allow_rollup_hdrs: true }),
  }
}
