/** A JetStream stream over one Link: the hot paths speak the API's subjects directly. */
import type { Msg } from 'nats'
import {
  type AppendOptions,
  BrokerError,
  type ConsumeOptions,
  type Consumption,
  type Delivery,
  type Log,
  type LogRecord,
  type LogState,
  type TailOptions,
} from './broker.js'
import { ownIn, statusOf, textOfHeaders, valueIn } from './client/headers.js'
import { EMPTY, isNoMessage, parseAnswer, parsePubAck, textOf } from './client/jetstream-api.js'
import type { Reader } from './client/link.js'
import { json, type Shared } from './client/shared.js'
import { checkSubject } from './client/subject.js'
import { startConsume } from './consumer.js'
import { ensureDurable, forgetDurable, waitingOf } from './durable.js'
import { incarnationOf } from './incarnation.js'
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
    readonly shared: Shared,
  ) {
    this.#lastPrefix = `$JS.API.DIRECT.GET.${name}.`
  }

  append(subject: string, body: Uint8Array, options?: AppendOptions): Promise<number> {
    const refusal = this.shared.room?.refusal(this.name, body.length)
    if (refusal) return Promise.reject(refusal)
    return this.shared.appends.run(() => this.#append(subject, body, options))
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
      // Of what is not there 2.9 has only its store's words: "stream store EOF" past the end, "… not found", "… deleted".
      return isNoMessage(error) || /no message found|store EOF|not found|deleted/.test(error.description ?? '')
    })
    return answer !== null
  }

  async purge(filter: string, beforeSequence: number): Promise<void> {
    // To the server, 0 and 1 are no bound.
    if (beforeSequence > 1) await this.#api('PURGE', { filter, seq: beforeSequence })
  }

  async state(): Promise<LogState> {
    const info = await this.#api<{
      created: string
      config?: { description?: string }
      state: { messages: number; first_seq: number; last_seq: number }
    }>('INFO', {})
    if (!info) throw new BrokerError('unavailable', `${this.name}: no state`)
    return {
      messages: info.state.messages,
      firstSequence: info.state.first_seq,
      lastSequence: info.state.last_seq,
      incarnation: incarnationOf(info),
    }
  }

  consume(options: ConsumeOptions, handler: (delivery: Delivery) => void): Promise<Consumption> {
    return startConsume(this.shared, this, options, handler)
  }

  async prepare(options: ConsumeOptions): Promise<void> {
    await ensureDurable(this.shared, this.name, options)
  }

  forgetConsumer(durable: string): Promise<void> {
    return forgetDurable(this.shared, this.name, durable)
  }

  waiting(durable: string): Promise<number | null> {
    return waitingOf(this.shared, this.name, durable)
  }

  tail(options: TailOptions, handler: (record: LogRecord) => void): Promise<Consumption> {
    return startTail(this.shared, this.name, options, handler)
  }

  #append(subject: string, body: Uint8Array, options?: AppendOptions): Promise<number> {
    const { link } = this.shared
    const { requestTimeoutMs } = link.settings
    return link.askFor(appended(subject, options), subject, body, requestTimeoutMs, appendHeaders(options))
  }

  #directRead(subject: string, query: Uint8Array): Promise<LogRecord | null> {
    const { link } = this.shared
    return link.askFor(FOUND, subject, query, link.settings.requestTimeoutMs)
  }

  #needsLeader(options?: { authoritative?: boolean }): boolean {
    return options?.authoritative === true && !this.shared.isAlone()
  }

  async #find(query: object, needsLeader: boolean): Promise<LogRecord | null> {
    const found = await this.#directRead(`$JS.API.DIRECT.GET.${this.name}`, json(query))
    return found === null && needsLeader ? this.#leaderRead(query) : found
  }

  /** Here the subject is in the body, where the link does not see it. */
  async #leaderLast(subject: string): Promise<LogRecord | null> {
    checkSubject(subject)
    return this.#leaderRead({ last_by_subj: subject })
  }

  async #leaderRead(query: object): Promise<LogRecord | null> {
    const answer = await this.#api<{ message: StoredMessage }>('MSG.GET', query, isNoMessage)
    return answer && storedRecord(answer.message)
  }

  #api<T extends object>(verb: string, query: object, allow?: Parameters<typeof parseAnswer>[2]): Promise<T | null> {
    const { link } = this.shared
    const answer: Reader<T | null> = {
      read: ({ data }) => parseAnswer<T>(data, `${verb} of ${this.name}`, allow),
      nobody: 'unavailable',
    }
    return link.askFor(answer, `$JS.API.STREAM.${verb}.${this.name}`, json(query), link.settings.requestTimeoutMs)
  }
}

// Nobody serves a stream's subject: no such stream, or no leader now. To a caller that is `unavailable`.

const FOUND: Reader<LogRecord | null> = { read: foundRecord, nobody: 'unavailable' }

/** Of a direct get; null where it says that there is none. */
function foundRecord(message: Msg): LogRecord | null {
  const status = statusOf(message)
  if (status === 404) return null
  const headers = textOfHeaders(message)
  const sequence = valueIn(headers, 'Nats-Sequence')
  if (!sequence) throw new BrokerError('unavailable', `direct get: status ${status} ${message.headers?.description}`)
  return {
    subject: valueIn(headers, 'Nats-Subject'),
    sequence: Number(sequence),
    body: message.data,
    storedAtMs: Date.parse(valueIn(headers, 'Nats-Time-Stamp')),
    headers: ownIn(headers),
  }
}

/** The sequence of what was appended. */
function appended(subject: string, options?: AppendOptions): Reader<number> {
  const read = ({ data }: Msg) => {
    try {
      return parsePubAck(data, subject)
    } catch (error) {
      throw withoutContradiction(error, options)
    }
  }
  return { read, nobody: 'unavailable' }
}

/**
 * nats-server 2.9 says "wrong last sequence: 0" to who expects 0 where it could not look into its store. Nothing is known
 * then, least of all that the subject has a record: who takes it for one stored earlier loses his.
 */
function withoutContradiction(error: unknown, options?: AppendOptions): unknown {
  const isRefusal = error instanceof BrokerError && error.code === 'wrong_last_sequence'
  if (isRefusal && error.lastSequence === options?.expectedLastSubjectSequence) {
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
    headers: stored.hdrs ? ownIn(textOf(Buffer.from(stored.hdrs, 'base64'))) : null,
  }
}
