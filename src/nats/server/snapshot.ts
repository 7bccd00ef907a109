/**
 * Snapshots of streams by JetStream's own API: a compressed archive that keeps every sequence number, in chunks.
 *
 * A snapshot is no picture of one moment. nats-server 2.9 reads one message block after the other while others write: it
 * has every record that stays in the stream all the while, and it may miss a record that is copied to the end of the
 * stream while its older copy is deleted. A caller that needs those records tails the stream meanwhile.
 */
import { randomBytes } from 'node:crypto'
import { BrokerError, type Bus } from '../broker.js'
import { type ApiError, brokerErrorOf, EMPTY, textOf } from '../client/jetstream-api.js'
import { inboxPrefixOf } from '../connect.js'
import { restoredDescription } from '../incarnation.js'

export interface StreamState {
  messages: number
  bytes: number
  first_seq: number
  last_seq: number
}

/** A stream as the server describes it. The configuration goes back to the server as it came. */
export interface StreamDescription {
  config: { name: string; subjects: string[]; description?: string } & Record<string, unknown>
  state: StreamState
  created: string
}

const API_TIMEOUT_MS = 15_000
/** The server sends again within milliseconds; longer silence means that it gave up. */
const CHUNK_TIMEOUT_MS = 30_000
export const CHUNK_BYTES = 128 * 1024
const NO_STREAM = 10059

/** Null where there is no such stream. Rejects with BrokerError. */
export async function describeStream(bus: Bus, name: string): Promise<StreamDescription | null> {
  return ask<StreamDescription>(bus, `STREAM.INFO.${name}`, {}, NO_STREAM)
}

/** Every stream of the account. */
export async function listStreams(bus: Bus): Promise<StreamDescription[]> {
  const found: StreamDescription[] = []
  for (;;) {
    const page = await ask<{ total: number; streams: StreamDescription[] | null }>(bus, 'STREAM.LIST', {
      offset: found.length,
    })
    found.push(...(page?.streams ?? []))
    if (!page?.streams?.length || found.length >= page.total) return found
  }
}

export async function deleteStream(bus: Bus, name: string): Promise<void> {
  await ask(bus, `STREAM.DELETE.${name}`, {}, NO_STREAM)
}

export interface SnapshotOptions {
  /** The NATS user of this connection: chunks come to its inbox. */
  user: string
  /** With the durable consumers and their positions. */
  consumers: boolean
  /** Called with each chunk, in order, synchronously. What it throws ends the snapshot. */
  onChunk(chunk: Uint8Array): void
}

/** Resolves with the state in which the stream was when the snapshot began. Rejects with BrokerError. */
export async function snapshotStream(bus: Bus, name: string, options: SnapshotOptions): Promise<StreamState> {
  const { user, consumers, onChunk } = options
  const inbox = `${inboxPrefixOf(user)}.snapshot-${randomBytes(9).toString('hex')}`
  let finish: (error: unknown) => void = () => undefined
  const finished = new Promise<void>((resolve, reject) => {
    finish = (error) => (error ? reject(error) : resolve())
  })
  // A rejection before it is awaited is not unhandled.
  finished.catch(() => undefined)
  let lastHeardMs = performance.now()
  let isOver = false
  const subscription = bus.subscribe(inbox, ({ body, reply }) => {
    if (isOver) return
    lastHeardMs = performance.now()
    if (body.length === 0) {
      isOver = true
      finish(null)
      return
    }
    try {
      onChunk(body)
      // The server waits for this before it sends much more.
      if (reply) bus.publish(reply, EMPTY)
    } catch (error) {
      isOver = true
      finish(error)
    }
  })
  const watchdog = setInterval(() => {
    if (performance.now() - lastHeardMs < CHUNK_TIMEOUT_MS) return
    finish(new BrokerError('timeout', `snapshot of ${name}: the server sends nothing more`))
  }, 1_000)
  try {
    const query = { deliver_subject: inbox, no_consumers: !consumers, chunk_size: CHUNK_BYTES }
    const begun = await ask<{ state: StreamState }>(bus, `STREAM.SNAPSHOT.${name}`, query)
    await finished
    return (begun as { state: StreamState }).state
  } finally {
    clearInterval(watchdog)
    subscription.unsubscribe()
  }
}

/**
 * Makes a stream from a snapshot; the stream must not be there. The description of its configuration tells from then on
 * when it was restored. Resolves with its state. Rejects with BrokerError; the server then drops what it had received.
 */
export async function restoreStream(
  bus: Bus,
  config: StreamDescription['config'],
  chunks: Iterable<Uint8Array>,
  restoredAtMs: number,
): Promise<StreamState> {
  const { name } = config
  const begun = await ask<{ deliver_subject: string }>(bus, `STREAM.RESTORE.${name}`, {
    config: { ...config, description: restoredDescription(restoredAtMs) },
    state: {},
  })
  const subject = begun?.deliver_subject ?? ''
  for (const chunk of chunks) {
    const refusal = await bus.request(subject, chunk, { timeoutMs: CHUNK_TIMEOUT_MS })
    if (refusal.length > 0) throw new BrokerError('unavailable', `restore of ${name}: ${textOf(refusal)}`)
  }
  const answer = await bus.request(subject, EMPTY, { timeoutMs: CHUNK_TIMEOUT_MS })
  return (parsed<StreamDescription>(answer, `restore of ${name}`) as StreamDescription).state
}

async function ask<T extends object>(bus: Bus, verb: string, query: object, absent?: number): Promise<T | null> {
  const answer = await bus.request(`$JS.API.${verb}`, Buffer.from(JSON.stringify(query)), { timeoutMs: API_TIMEOUT_MS })
  return parsed<T>(answer, verb, absent)
}

function parsed<T extends object>(body: Uint8Array, what: string, absent?: number): T | null {
  const answer = JSON.parse(textOf(body)) as T & { error?: ApiError }
  if (!answer.error) return answer
  if (absent !== undefined && answer.error.err_code === absent) return null
  throw brokerErrorOf(answer.error, what)
}
