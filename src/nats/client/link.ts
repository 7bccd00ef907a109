/**
 * One connection's questions and answers: every request and append publishes with a reply under one shared inbox, so
 * that an answer costs a map look-up and no subscription of its own.
 */
import { createInbox, type Msg, type NatsConnection } from 'nats'
import { BrokerError, type BrokerErrorCode } from '../broker.js'
import type { NatsSettings } from '../settings.js'
import { headersToSend, statusOf } from './headers.js'
import { checkSubject } from './subject.js'
import { type Command, TurnWriter } from './turn-writer.js'

const SWEEP_MS = 50

/** How an answer is taken: at once, so that what asks needs one promise and no chain of them. */
export interface Reader<T> {
  /** What it throws, rejects. */
  read: (message: Msg) => T
  /** What it is called where nobody serves the subject. */
  nobody: BrokerErrorCode
}

const WHOLE: Reader<Msg> = { read: (message) => message, nobody: 'no_responders' }

interface Pending {
  subject: string
  deadlineMs: number
  reader: Reader<unknown>
  resolve: (answer: unknown) => void
  reject: (error: unknown) => void
}

export class Link {
  /** Kept by nats.ts from the connection's status. While false nothing is published: it would pile up unseen. */
  connected = true
  readonly #inbox: string
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
    this.#inbox = `${createInbox(inboxPrefix)}.`
    nc.subscribe(`${this.#inbox}*`, {
      callback: (error, message) => {
        if (!error) this.#answered(message)
      },
    })
  }

  /** A new subject under this user's inbox prefix, for the caller's own subscription. */
  newInbox(): string {
    return createInbox(this.inboxPrefix)
  }

  /** Publishes and resolves with the answer. Rejects with `no_responders`, `timeout`, `disconnected`, `unavailable`, or RangeError. */
  ask(subject: string, body: Uint8Array, timeoutMs: number): Promise<Msg> {
    return this.askFor(WHOLE, subject, body, timeoutMs)
  }

  /** The same, with what `reader` makes of the answer. */
  askFor<T>(
    reader: Reader<T>,
    subject: string,
    body: Uint8Array,
    timeoutMs: number,
    headers: Record<string, string> | null = null,
  ): Promise<T> {
    if (!this.connected) return Promise.reject(new BrokerError('disconnected', `${subject}: not connected`))
    if (this.#pending.size >= this.settings.requestsInFlightMax) {
      return Promise.reject(new BrokerError('unavailable', `${subject}: too many requests without an answer`))
    }
    const token = this.#nextToken++
    return new Promise<T>((resolve, reject) => {
      const pending = { subject, deadlineMs: Date.now() + timeoutMs, reader, resolve, reject }
      this.#pending.set(token, pending as Pending)
      this.#sweeper ??= setInterval(() => this.#sweep(), SWEEP_MS).unref()
      try {
        this.publish(subject, body, this.#inbox + token, headers)
      } catch (error) {
        this.#pending.delete(token)
        reject(error)
      }
    })
  }

  /**
   * Leaves at the end of this turn of the event loop; `body` must stay as it is until then. While there is no connection
   * it is lost. Throws BrokerError `unavailable` where it is longer than the server takes; RangeError for what is no subject.
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

  /** Gives what this turn has published so far to the connection. */
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

  /** Whoever waits for an answer to it is told. */
  #failed(subject: string, reply: string, error: unknown): void {
    const token = reply.startsWith(this.#inbox) ? Number(reply.slice(this.#inbox.length)) : 0
    const pending = this.#pending.get(token)
    if (!pending) {
      this.report(`publish to ${subject}`, error)
      return
    }
    this.#pending.delete(token)
    const code = this.nc.isClosed() ? 'disconnected' : 'unavailable'
    pending.reject(new BrokerError(code, `${subject}: ${String(error)}`, 0, { cause: error }))
  }

  /**
   * What was not sent yet is lost, and answers that were on their way: whoever waits learns it now and not at its
   * time-out.
   */
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
    const token = Number(message.subject.slice(this.#inbox.length))
    const pending = this.#pending.get(token)
    if (!pending) return // came after its time-out
    this.#pending.delete(token)
    const { subject, reader } = pending
    try {
      if (statusOf(message) === 503) throw new BrokerError(reader.nobody, `${subject}: nobody serves it`)
      pending.resolve(reader.read(message))
    } catch (error) {
      pending.reject(error)
    }
  }

  #sweep(): void {
    const now = Date.now()
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
