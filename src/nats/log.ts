/** A JetStream stream on one Link. It calls the JetStream API by its subjects, because the client's own calls cost more. */
import type { Msg } from 'nats'
import {
  type AppendOptions,
  BrokerError,
  type ConsumeOptions,
  type Consumption,
  type Delivery,
  isConflict,
  type Log,
  type LogRecord,
  type LogState,
  type TailOptions,
} from './broker.js'
import { type Connection, json } from './client/connection.js'
import { applicationHeadersIn, headerText, headerValue, statusOf } from './client/headers.js'
import { EMPTY, isNoMessage, parseAnswer, parsePubAck, textOf } from './client/jetstream-api.js'
import type { Reader } from './client/link.js'
import { checkSubject } from './client/subject.js'
import { startConsume } from './consumer.js'
import { backlogOf, deleteDurable, ensureDurable } from './durable.js'
import { incarnationOf } from './incarnation.js'
import { refusesAtBytes } from './server/headroom.js'
import { startTail } from './tail.js'

interface StoredMessage {
  subject: string
  seq: number
  data?: string
  hdrs?: string
  time: string
}

export class NatsLog implements Log {
  readonly #lastPrefix: string

  constructor(
    readonly name: string,
    readonly connection: Connection,
  ) {
    this.#lastPrefix = `$JS.API.DIRECT.GET.${name}.`
  }

  append(subject: string, body: Uint8Array, options?: AppendOptions): Promise<number> {
    const refusal = this.connection.headroom?.refusal(this.name, body.length, options?.usesReserve)
    if (refusal) return Promise.reject(refusal)
    return this.connection.appends.run(() => this.#append(subject, body, options))
  }

  last(subject: string, options?: { authoritative?: boolean }): Promise<LogRecord | null> {
    if (this.#needsLeader(options)) return this.#leaderLast(subject)
    return this.#directRead(`${this.#lastPrefix}${subject}`, EMPTY)
  }

  at(sequence: number, options?: { authoritative?: boolean }): Promise<LogRecord | null> {
    return this.#find({ seq: sequence }, this.#needsLeader(options))
  }

  next(filter: string, fromSequence: number, options?: { authoritative?: boolean }): Promise<LogRecord | null> {
    const query = { seq: Math.max(1, fromSequence), next_by_subj: filter }
    return this.#find(query, this.#needsLeader(options))
  }

  async delete(sequence: number): Promise<boolean> {
    const answer = await this.#api('MSG.DELETE', { seq: sequence, no_erase: true }, (error) => {
      // For a missing record, nats-server 2.9 gives only its store's text: "stream store EOF", "… not found", "… deleted".
      return isNoMessage(error) || /no message found|store EOF|not found|deleted/.test(error.description ?? '')
    })
    return answer !== null
  }

  async purge(filter: string, beforeSequence: number): Promise<void> {
    // The server takes 0 and 1 as no bound and would purge everything.
    if (beforeSequence > 1) await this.#api('PURGE', { filter, seq: beforeSequence })
  }

  async state(): Promise<LogState> {
    const info = await this.#api<{
      created: string
      config: { description?: string; discard?: string; max_bytes: number; max_msgs: number }
      state: { messages: number; bytes: number; first_seq: number; last_seq: number }
    }>('INFO', {})
    if (!info) throw new BrokerError('unavailable', `${this.name}: no state`)
    return {
      messages: info.state.messages,
      firstSequence: info.state.first_seq,
      lastSequence: info.state.last_seq,
      incarnation: incarnationOf(info),
      bytes: info.state.bytes,
      bytesMax: Math.max(0, info.config.max_bytes),
      recordsMax: Math.max(0, info.config.max_msgs),
      refusesAtBytes: refusesAtBytes(info.config.max_bytes, info.config.discard),
    }
  }

  consume(options: ConsumeOptions, handler: (delivery: Delivery) => void): Promise<Consumption> {
    return startConsume(this.connection, this, options, handler)
  }

  async createConsumer(options: ConsumeOptions): Promise<void> {
    await ensureDurable(this.connection, this.name, options)
  }

  deleteConsumer(durable: string): Promise<void> {
    return deleteDurable(this.connection, this.name, durable)
  }

  backlog(durable: string): Promise<number | null> {
    return backlogOf(this.connection, this.name, durable)
  }

  tail(options: TailOptions, handler: (record: LogRecord) => void): Promise<Consumption> {
    return startTail(this.connection, this, options, handler)
  }

  #append(subject: string, body: Uint8Array, options?: AppendOptions): Promise<number> {
    const { link } = this.connection
    const { requestTimeoutMs } = link.settings
    return link.askFor(appended(subject, options), subject, body, requestTimeoutMs, appendHeaders(options))
  }

  #directRead(subject: string, query: Uint8Array): Promise<LogRecord | null> {
    const { link } = this.connection
    return link.askFor(FOUND, subject, query, link.settings.requestTimeoutMs)
  }

  #needsLeader(options?: { authoritative?: boolean }): boolean {
    return options?.authoritative === true && !this.connection.isStandalone()
  }

  async #find(query: object, needsLeader: boolean): Promise<LogRecord | null> {
    const found = await this.#directRead(`$JS.API.DIRECT.GET.${this.name}`, json(query))
    return found === null && needsLeader ? this.#leaderRead(query) : found
  }

  /** Checks the subject itself: here it travels in the body, which the link does not check. */
  async #leaderLast(subject: string): Promise<LogRecord | null> {
    checkSubject(subject)
    return this.#leaderRead({ last_by_subj: subject })
  }

  async #leaderRead(query: object): Promise<LogRecord | null> {
    const answer = await this.#api<{ message: StoredMessage }>('MSG.GET', query, isNoMessage)
    return answer && storedRecord(answer.message)
  }

  #api<T extends object>(verb: string, query: object, allow?: Parameters<typeof parseAnswer>[2]): Promise<T | null> {
    const { link } = this.connection
    const answer: Reader<T | null> = {
      read: ({ data }) => parseAnswer<T>(data, `${verb} of ${this.name}`, allow),
      whenUnserved: 'unavailable',
    }
    return link.askFor(answer, `$JS.API.STREAM.${verb}.${this.name}`, json(query), link.settings.requestTimeoutMs)
  }
}

// If no server serves the API subject of a stream, there is no such stream or it has no leader now: `unavailable`.

const FOUND: Reader<LogRecord | null> = { read: foundRecord, whenUnserved: 'unavailable' }

/** Reads the answer to a direct get; null if it says that there is no such record. */
function foundRecord(message: Msg): LogRecord | null {
  const status = statusOf(message)
  if (status === 404) return null
  const headers = headerText(message)
  const sequence = headerValue(headers, 'Nats-Sequence')
  if (!sequence) throw new BrokerError('unavailable', `direct get: status ${status} ${message.headers?.description}`)
  return {
    subject: headerValue(headers, 'Nats-Subject'),
    sequence: Number(sequence),
    body: message.data,
    storedAtMs: Date.parse(headerValue(headers, 'Nats-Time-Stamp')),
    headers: applicationHeadersIn(headers),
  }
}

/** Reads the sequence from the answer to an append. */
function appended(subject: string, options?: AppendOptions): Reader<number> {
  const read = ({ data }: Msg) => {
    try {
      return parsePubAck(data, subject)
    } catch (error) {
      throw unlessContradictory(error, options)
    }
  }
  return { read, whenUnserved: 'unavailable' }
}

/**
 * nats-server 2.9 answers "wrong last sequence: 0" to an append that expects 0 when it cannot read its store. The answer
 * does not prove that the subject has a record: a caller that took it for a conflict would lose its own record.
 */
function unlessContradictory(error: unknown, options?: AppendOptions): unknown {
  if (isConflict(error) && error.lastSequence === options?.expectedLastSubjectSequence) {
    return new BrokerError('unavailable', `${error.message}, as expected`, 0, { cause: error })
  }
  return error
}

function appendHeaders(options?: AppendOptions): Record<string, string> | undefined {
  if (!options) return undefined
  const headers: Record<string, string> = { ...options.headers }
  if (options.messageId !== undefined) headers['Nats-Msg-Id'] = options.messageId
  if (options.expectedLastSubjectSequence !== undefined) {
    headers['Nats-Expected-Last-Subject-Sequence'] = String(options.expectedLastSubjectSequence)
  }
  return headers
}

function storedRecord(stored: StoredMessage): LogRecord {
  return {
    subject: stored.subject,
    sequence: stored.seq,
    body: stored.data ? Buffer.from(stored.data, 'base64') : EMPTY,
    storedAtMs: Date.parse(stored.time),
    headers: stored.hdrs ? applicationHeadersIn(textOf(Buffer.from(stored.hdrs, 'base64'))) : null,
  }
}
