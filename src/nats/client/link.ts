/**
 * Requests and their answers on one connection. Every request and append uses a reply subject under one shared inbox, so
 * that an answer costs a map look-up and not a subscription.
 */
import { createInbox, type Msg, type NatsConnection } from 'nats'
import { BrokerError, type BrokerErrorCode } from '../broker.js'
import type { NatsSettings } from '../settings.js'
import { headersToSend, statusOf } from './headers.js'
import { checkSubject } from './subject.js'
import { type Command, TurnWriter } from './turn-writer.js'

const SWEEP_MS = 50

/** Decodes an answer when it arrives, so that a request needs one promise and not a chain of promises. */
export interface Reader<T> {
  /** An exception from it rejects the request. */
  read: (message: Msg) => T
  /** The error code for a subject that nobody serves. */
  whenUnserved: BrokerErrorCode
}

const WHOLE: Reader<Msg> = { read: (message) => message, whenUnserved: 'no_responders' }

interface Pending {
  subject: string
  reply: string
  deadlineMs: number
  reader: Reader<unknown>
  resolve: (answer: unknown) => void
  reject: (error: unknown) => void
}

export class Link {
  /** connect.ts sets it from the status of the connection. While it is false, the link publishes nothing. */
  connected = true
  /** Beginnings of reply subjects. The last token of a reply subject is the number of the request. */
  readonly #inbox: string
  /** More of them, by the prefix that a caller asked for. */
  readonly #inboxes = new Map<string, string>()
  readonly #pending = new Map<number, Pending>()
  #nextToken = 1
  #sweeper: NodeJS.Timeout | null = null
  readonly #writer = new TurnWriter((command) => this.#write(command))

  constructor(
    readonly nc: NatsConnection,
    readonly settings: NatsSettings,
    readonly inboxPrefix: string,
    readonly report: (problem: string, error: unknown) => void,
  ) {
    this.#inbox = this.#openInbox(inboxPrefix)
  }

  #inboxUnder(prefix: string): string {
    const known = this.#inboxes.get(prefix)
    if (known) return known
    const inbox = this.#openInbox(prefix)
    this.#inboxes.set(prefix, inbox)
    return inbox
  }

  #openInbox(prefix: string): string {
    const inbox = `${createInbox(prefix)}.`
    this.nc.subscribe(`${inbox}*`, {
      callback: (error, message) => {
        if (!error) this.#answered(message)
      },
    })
    return inbox
  }

  /** A new subject under this user's inbox prefix, for a subscription of the caller. */
  newInbox(): string {
    return createInbox(this.inboxPrefix)
  }

  /**
   * Resolves with the answer. Rejects with `no_responders`, `timeout`, `disconnected`, `unavailable` or RangeError.
   * @param answersUnder the beginning of the reply subject, instead of the inbox prefix
   */
  ask(subject: string, body: Uint8Array, timeoutMs: number, answersUnder?: string): Promise<Msg> {
    const inbox = answersUnder === undefined ? this.#inbox : this.#inboxUnder(answersUnder)
    return this.#request(WHOLE, subject, body, timeoutMs, null, inbox)
  }

  /** Resolves with the answer as `reader` decodes it. */
  askFor<T>(
    reader: Reader<T>,
    subject: string,
    body: Uint8Array,
    timeoutMs: number,
    headers: Record<string, string> | null = null,
  ): Promise<T> {
    return this.#request(reader, subject, body, timeoutMs, headers, this.#inbox)
  }

  #request<T>(
    reader: Reader<T>,
    subject: string,
    body: Uint8Array,
    timeoutMs: number,
    headers: Record<string, string> | null,
    inbox: string,
  ): Promise<T> {
    if (!this.connected) return Promise.reject(new BrokerError('disconnected', `${subject}: not connected`))
    if (this.#pending.size >= this.settings.requestsInFlightMax) {
      return Promise.reject(new BrokerError('unavailable', `${subject}: too many requests without an answer`))
    }
    const token = this.#nextToken++
    return new Promise<T>((resolve, reject) => {
      const reply = inbox + token
      const pending = { subject, reply, deadlineMs: performance.now() + timeoutMs, reader, resolve, reject }
      this.#pending.set(token, pending as Pending)
      this.#sweeper ??= setInterval(() => this.#sweep(), SWEEP_MS).unref()
      try {
        this.publish(subject, body, reply, headers)
      } catch (error) {
        this.#pending.delete(token)
        reject(error)
      }
    })
  }

  /**
   * Sends the message at the end of this turn of the event loop; `body` must not change until then. Without a connection
   * the message is lost. Throws BrokerError `unavailable` if the message is longer than the server accepts, and
   * RangeError if the subject is invalid.
   */
  publish(subject: string, body: Uint8Array, reply = '', headers: Record<string, string> | null = null): void {
    checkSubject(subject)
    if (reply !== '') checkSubject(reply)
    if (!this.connected) return
    const bytesMax = this.nc.info?.max_payload ?? Number.POSITIVE_INFINITY
    if (body.length > bytesMax) {
      throw new BrokerError('unavailable', `${subject}: ${body.length} bytes, the server takes ${bytesMax}`)
    }
    this.#writer.add(subject, body, reply, headers)
  }

  /** Passes everything that this turn has published so far to the connection. */
  flush(): void {
    this.#writer.flush()
  }

  #write({ subject, body, reply, headers }: Command): void {
    try {
      this.nc.publish(subject, body, { reply, ...(headers && { headers: headersToSend(headers) }) })
    } catch (error) {
      this.#failed(subject, reply, error)
    }
  }

  /** Rejects the request whose message could not be written. Other failures only go to the log. */
  #failed(subject: string, reply: string, error: unknown): void {
    const pending = this.#pending.get(requestNumberOf(reply))
    if (pending?.reply !== reply) {
      this.report(`publish to ${subject}`, error)
      return
    }
    this.#pending.delete(requestNumberOf(reply))
    const code = this.nc.isClosed() ? 'disconnected' : 'unavailable'
    pending.reject(new BrokerError(code, `${subject}: ${String(error)}`, 0, { cause: error }))
  }

  /** Rejects every pending request now, not at its time-out: a lost connection loses unsent messages and answers. */
  failAll(): void {
    this.#writer.drop()
    const failed = [...this.#pending.values()]
    this.#pending.clear()
    for (const { subject, reject } of failed) {
      reject(new BrokerError('disconnected', `${subject}: the connection was lost before an answer came`))
    }
  }

  stop(): void {
    if (this.#sweeper) clearInterval(this.#sweeper)
    this.#sweeper = null
    this.connected = false
    this.failAll()
  }

  #answered(message: Msg): void {
    const token = requestNumberOf(message.subject)
    const pending = this.#pending.get(token)
    if (!pending) return // the answer came after its time-out
    this.#pending.delete(token)
    const { subject, reader } = pending
    try {
      if (statusOf(message) === 503) throw new BrokerError(reader.whenUnserved, `${subject}: nobody serves it`)
      pending.resolve(reader.read(message))
    } catch (error) {
      pending.reject(error)
    }
  }

  #sweep(): void {
    const now = performance.now()
    for (const [token, pending] of this.#pending) {
      if (pending.deadlineMs > now) continue
      this.#pending.delete(token)
      pending.reject(new BrokerError('timeout', `${pending.subject}: no answer in time`))
    }
    if (this.#pending.size === 0 && this.#sweeper) {
      clearInterval(this.#sweeper)
      this.#sweeper = null
    }
  }
}

/** The number of the request that a reply subject belongs to. */
const requestNumberOf = (reply: string): number => Number(reply.slice(reply.lastIndexOf('.') + 1))
