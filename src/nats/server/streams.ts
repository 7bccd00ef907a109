/** Definitions of every stream and bucket in protocol/subjects.ts, and the code that creates and updates them. */
import {
  AUDIT_FILTER,
  AUDIT_STREAM,
  BROADCAST_FILTER,
  BROADCAST_STREAM,
  Bucket,
  DEAD_LETTERS_STREAM,
  EXPIRY_STREAM,
  eventsStream,
  INGRESS_STREAM,
  messagesStream,
  OUTCOME_EVENTS_STREAM,
  queueStream,
  RECEIPTS_STREAM,
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
  /** `work`: acknowledgement by the one consumer removes a record. `keep`: deletion or age removes it. */
  retention: 'work' | 'keep'
  bytesMax: number
  /** 0: limited by bytes only. */
  recordsMax: number
  /** Longest record, body and headers; 0: the limit of the server. */
  recordBytesMax: number
  /** 0: no limit of age. */
  ageMs: number
  /** Most records of one subject; beyond it, the oldest of the subject is removed. 0: no limit. 1 in buckets. */
  perSubjectMax: number
  /** At the limit, the stream refuses new records (`refuse`) or removes its oldest (`dropOldest`). */
  whenFull: 'refuse' | 'giveWay'
  duplicateWindowMs: number
  bucket: boolean
}

/** For streams that append by compare-and-set, such as EVENTS and QUEUE: they need no longer memory, which costs RAM. */
const SHORT_WINDOW_MS = 1_000
const API_TIMEOUT_MS = 10_000
/**
 * Longer than any client assertion is valid: ten minutes, plus a minute of clock difference at each end. An assertion
 * that has left the bucket is refused as expired.
 */
const ASSERTIONS_AGE_MS = 15 * 60_000
/** Upper estimate for the subject of a record and the server's own data. */
export const RECORD_OVERHEAD_BYTES = 512
/** Buckets with one entry for each device. */
const LARGE_BUCKETS = new Set<string>([Bucket.DEVICES, Bucket.SESSIONS])
const NAME_IN_USE = 10058
const WRITTEN_BY_TRANSPORTS = new Set<string>([`KV_${Bucket.SESSIONS}`, `KV_${Bucket.WORKERS}`])

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
      subjects: [BROADCAST_FILTER],
      bytesMax: store.broadcastBytesMax,
      ageMs: store.broadcastAgeMs,
      duplicateWindowMs: window,
    },
    {
      ...base,
      name: RECEIPTS_STREAM,
      subjects: ['receipt.>'],
      bytesMax: store.receiptsBytesMax,
      // As long as the event of the group message.
      ageMs: store.eventsAgeMs,
      perSubjectMax: 1,
      whenFull: 'giveWay',
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
      // A project with too many events loses its own events and not those of others.
      perSubjectMax: store.outcomeEventsPerKindMax,
      whenFull: 'giveWay',
      duplicateWindowMs: window,
    },
    {
      ...base,
      name: AUDIT_STREAM,
      subjects: [AUDIT_FILTER],
      bytesMax: store.auditBytesMax,
      // A project with too many changes loses entries of its own and not those of others.
      perSubjectMax: store.auditPerProjectMax,
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
 * Limits the number of records in INGRESS so that its bytes never run out. Publishers write to INGRESS directly, so
 * headroom.ts does not protect it, and near a limit of bytes nats-server 2.9 removes records that it has confirmed. A
 * limit of records is exact: the server refuses the first record beyond it.
 */
function ingressRecordsMax({ ingressBytesMax, ingressRecordBytes }: StoreSettings): number {
  return Math.max(1, Math.floor(ingressBytesMax / (ingressRecordBytes + RECORD_OVERHEAD_BYTES)))
}

/**
 * Creates missing streams and updates the others. Several processes may run it at once, at every start. Throws
 * BrokerError `unavailable` with the name of a stream whose definition cannot change.
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
    // The same settings that NATS tools give a bucket, so that they recognise it. A transport writes into two of them: a
    // record with a roll-up header would remove the records of all others.
    ...(definition.bucket && { deny_delete: true, allow_rollup_hdrs: !WRITTEN_BY_TRANSPORTS.has(definition.name) }),
  }
}
