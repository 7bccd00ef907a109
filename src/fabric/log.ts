/** A JetStream stream over one Link: the hot paths speak the API's subjects directly. */
import type { Msg } from 'nats'
import { EMPTY, isNoMessage, parseAnswer, parsePubAck, textOf } from './api.js'
import { startConsume } from './consume.js'
import { ensureDurable, forgetDurable, waitingOf } from './durable.js'
import {
  type AppendOptions,
  type ConsumeOptions,
  type Consumption,
  type Delivery,
  FabricError,
  type Log,
  type LogRecord,
  type LogState,
  type TailOptions,
} from './fabric.js'
import { ownIn, statusOf, textOfHeaders, valueIn } from './headers.js'
import type { Link } from './link.js'
import type { Reconnects } from './reconnects.js'
import type { Room } from './room.js'
import { checkSubject } from './subject.js'
import { startTail } from './tail.js'
import type { Window } from './window.js'

/** What all logs and tables of one connection share. */
export interface Shared {
  link: Link
  appends: Window
  reconnects: Reconnects
  /**
   * The server is of no cluster: then every stream has one copy, only that answers a direct get, and what it has is
   * what there is (ADR 0013). Else a replica that lags may answer, and authoritative reads go to the leader.
   */
  isAlone: () => boolean
  /** Null: this process writes nothing that may not be lost. */
  room: Room | null
  report: (problem: string, error: unknown) => void
}

interface StoredMessage {
  subject: string
  seq: number
  data?: string
  hdrs?: string
  time: string
}

export class NatsLog implements Log {
  constructor(
    readonly name: string,
    readonly shared: Shared,
  ) {}

  append(subject: string, body: Uint8Array, options?: AppendOptions): Promise<number> {
    const refusal = this.shared.room?.refusal(this.name, body.length)
    if (refusal) return Promise.reject(refusal)
    return this.shared.appends.run(() => this.#append(subject, body, options))
  }

  last(subject: string, options?: { authoritative?: boolean }): Promise<LogRecord | null> {
    if (this.#needsLeader(options)) return this.#leaderLast(subject)
    return this.#directRead(`$JS.API.DIRECT.GET.${this.name}.${subject}`, EMPTY)
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

  async purge(filter: string): Promise<void> {
    await this.#api('PURGE', { filter })
  }

  async state(): Promise<LogState> {
    const info = await this.#api<{
      created: string
      state: { messages: number; first_seq: number; last_seq: number }
    }>('INFO', {})
    if (!info) throw new FabricError('unavailable', `${this.name}: no state`)
    return {
      messages: info.state.messages,
      firstSequence: info.state.first_seq,
      lastSequence: info.state.last_seq,
      incarnation: Date.parse(info.created),
    }
  }

  consume(options: ConsumeOptions, handler: (delivery: Delivery) => void): Promise<Consumption> {
    return startConsume(this.shared, this.name, options, handler)
  }

  prepare(options: ConsumeOptions): Promise<void> {
    return ensureDurable(this.shared, this.name, options)
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

  async #append(subject: string, body: Uint8Array, options?: AppendOptions): Promise<number> {
    const { link } = this.shared
    try {
      const answer = await link.ask(subject, body, link.settings.requestTimeoutMs, appendHeaders(options))
      return parsePubAck(answer.data, subject)
    } catch (error) {
      throw withoutContradiction(withoutNoResponders(error), options)
    }
  }

  async #directRead(subject: string, query: Uint8Array): Promise<LogRecord | null> {
    const { link } = this.shared
    const message = await this.#ask(subject, query, link.settings.requestTimeoutMs)
    const status = statusOf(message)
    if (status === 404) return null
    const headers = textOfHeaders(message)
    const sequence = valueIn(headers, 'Nats-Sequence')
    if (!sequence) throw new FabricError('unavailable', `${subject}: status ${status} ${message.headers?.description}`)
    return {
      subject: valueIn(headers, 'Nats-Subject'),
      sequence: Number(sequence),
      body: message.data,
      storedAtMs: Date.parse(valueIn(headers, 'Nats-Time-Stamp')),
      headers: ownIn(headers),
    }
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

  async #api<T extends object>(verb: string, query: object, allow?: Parameters<typeof parseAnswer>[2]) {
    const { link } = this.shared
    const message = await this.#ask(`$JS.API.STREAM.${verb}.${this.name}`, json(query), link.settings.requestTimeoutMs)
    return parseAnswer<T>(message.data, `${verb} of ${this.name}`, allow)
  }

  async #ask(subject: string, query: Uint8Array, timeoutMs: number): Promise<Msg> {
    try {
      return await this.shared.link.ask(subject, query, timeoutMs)
    } catch (error) {
      throw withoutNoResponders(error)
    }
  }
}

/** Nobody serves a stream's subject: no such stream, or no leader now. To a caller that is `unavailable`. */
function withoutNoResponders(error: unknown): unknown {
  if (error instanceof FabricError && error.code === 'no_responders') {
    return new FabricError('unavailable', error.message, 0, { cause: error })
  }
  return error
}

/**
 * nats-server 2.9 says "wrong last sequence: 0" to who expects 0 where it could not look into its store. Nothing is known
 * then, least of all that the subject has a record: who takes it for one stored earlier loses his.
 */
function withoutContradiction(error: unknown, options?: AppendOptions): unknown {
  const isRefusal = error instanceof FabricError && error.code === 'wrong_last_sequence'
  if (isRefusal && error.lastSequence === options?.expectedLastSubjectSequence) {
    return new FabricError('unavailable', `${error.message}, as expected`, 0, { cause: error })
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

export const json = (value: object): Uint8Array => Buffer.from(JSON.stringify(value))
