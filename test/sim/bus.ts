/** The simulated counterpart of src/nats/bus.ts: core NATS for one process. */
import type { Bus, BusMessage, PublishOptions, RequestOptions, Subscription } from '../../src/nats/broker.js'

import { BrokerError } from '../../src/nats/broker.js'
import { checkFilter, checkSubject } from '../../src/nats/client/subject.js'
import type { SimClient } from './client.js'
import type { Routed } from './server.js'

export class SimBus implements Bus {
  readonly #waiting = new Map<string, (message: Routed) => void>()
  readonly #inbox: string
  /** The inboxes that callers requested, by prefix. */
  readonly #inboxes = new Map<string, string>()
  #requests = 0

  constructor(readonly client: SimClient) {
    this.#inbox = this.#openInbox(`_INBOX.${client.name}`)
  }

  publish(subject: string, body: Uint8Array, options?: PublishOptions): void {
    checkSubject(subject)
    if (options?.reply) checkSubject(options.reply)
    const message = {
      subject,
      body: body.slice(),
      reply: options?.reply ?? '',
      headers: options?.headers ?? null,
      noResponders: false,
    }
    this.client.toServer(subject, () => this.client.server.publish(this.client, message))
  }

  subscribe(subject: string, handler: (message: BusMessage) => void, options?: { queue?: string }): Subscription {
    checkFilter(subject)
    return this.client.subscribe(subject, options?.queue ?? '', handler)
  }

  async request(subject: string, body: Uint8Array, { timeoutMs, answersUnder }: RequestOptions): Promise<Uint8Array> {
    const reply = `${this.#inboxUnder(answersUnder)}.${this.#requests++}`
    try {
      return await this.client.waitFor<Uint8Array>(subject, timeoutMs, (resolve, reject) => {
        this.#waiting.set(reply, (answer) => {
          if (answer.noResponders) reject(new BrokerError('no_responders', `${subject}: no responders`))
          else resolve(answer.body)
        })
        this.publish(subject, body, { reply })
      })
    } finally {
      this.#waiting.delete(reply)
    }
  }

  #inboxUnder(prefix: string | undefined): string {
    if (prefix === undefined) return this.#inbox
    const inbox = this.#inboxes.get(prefix) ?? this.#openInbox(prefix)
    this.#inboxes.set(prefix, inbox)
    return inbox
  }

  #openInbox(prefix: string): string {
    const inbox = `${prefix}.${this.client.server.nextInbox()}`
    this.client.subscribe(`${inbox}.*`, '', (message) => {
      this.#waiting.get(message.subject)?.(message)
      this.#waiting.delete(message.subject)
    })
    return inbox
  }
}
