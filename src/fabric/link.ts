/**
 * One connection's questions and answers: every request and append publishes with a reply under one shared inbox, so
 * that an answer costs a map look-up and no subscription of its own.
 */
import { createInbox, type Msg, type NatsConnection, headers as natsHeaders } from 'nats'
import { statusOf } from './api.js'
import { FabricError } from './fabric.js'
import type { NatsSettings } from './settings.js'

const SWEEP_MS = 50

interface Pending {
  subject: string
  deadlineMs: number
  resolve: (message: Msg) => void
  reject: (error: FabricError) => void
}

export class Link {
  /** Kept by nats.ts from the connection's status. While false nothing is published: it would pile up unseen. */
  connected = true
  readonly #inbox: string
  readonly #pending = new Map<number, Pending>()
  #nextToken = 1
  #sweeper: NodeJS.Timeout | null = null

  constructor(
    readonly nc: NatsConnection,
    readonly settings: NatsSettings,
    readonly inboxPrefix: string,
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

  /** Publishes and resolves with the answer. Rejects with `no_responders`, `timeout`, `disconnected`, `unavailable`. */
  ask(subject: string, body: Uint8Array, timeoutMs: number, headers?: Record<string, string>): Promise<Msg> {
    if (!this.connected) return Promise.reject(new FabricError('disconnected', `${subject}: not connected`))
    if (this.#pending.size >= this.settings.requestsInFlightMax) {
      return Promise.reject(new FabricError('unavailable', `${subject}: too many requests without an answer`))
    }
    const token = this.#nextToken++
    return new Promise((resolve, reject) => {
      this.#pending.set(token, { subject, deadlineMs: Date.now() + timeoutMs, resolve, reject })
      this.#sweeper ??= setInterval(() => this.#sweep(), SWEEP_MS).unref()
      try {
        this.publish(subject, body, this.#inbox + token, headers)
      } catch (error) {
        this.#pending.delete(token)
        const code = this.nc.isClosed() ? 'disconnected' : 'unavailable'
        reject(new FabricError(code, `${subject}: ${String(error)}`, 0, { cause: error }))
      }
    })
  }

  publish(subject: string, body: Uint8Array, reply?: string, headers?: Record<string, string>): void {
    if (!this.connected) return
    const options: { reply?: string; headers?: ReturnType<typeof natsHeaders> } = {}
    if (reply) options.reply = reply
    if (headers) {
      const encoded = natsHeaders()
      for (const key in headers) encoded.set(key, headers[key] ?? '')
      options.headers = encoded
    }
    this.nc.publish(subject, body, options)
  }

  /** Answers that were on their way are lost: whoever waits learns it now and not at its time-out. */
  failAll(): void {
    const failed = [...this.#pending.values()]
    this.#pending.clear()
    for (const { subject, reject } of failed) {
      reject(new FabricError('disconnected', `${subject}: the connection was lost before an answer came`))
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
    if (statusOf(message) === 503) {
      pending.reject(new FabricError('no_responders', `${pending.subject}: nobody serves it`))
    } else {
      pending.resolve(message)
    }
  }

  #sweep(): void {
    const now = Date.now()
    for (const [token, pending] of this.#pending) {
      if (pending.deadlineMs > now) continue
      this.#pending.delete(token)
      pending.reject(new FabricError('timeout', `${pending.subject}: no answer in time`))
    }
    if (this.#pending.size === 0 && this.#sweeper) {
      clearInterval(this.#sweeper)
      this.#sweeper = null
    }
  }
}
