/** Core NATS over one Link. */
import type { Msg } from 'nats'
import type { Bus, BusMessage, PublishOptions, RequestOptions, Subscription } from './broker.js'
import { applicationHeaders, statusOf } from './client/headers.js'
import type { Link } from './client/link.js'
import { checkFilter } from './client/subject.js'

export class NatsBus implements Bus {
  constructor(
    readonly link: Link,
    readonly report: (problem: string, error: unknown) => void,
  ) {}

  publish(subject: string, body: Uint8Array, options?: PublishOptions): void {
    this.link.publish(subject, body, options?.reply, options?.headers)
  }

  subscribe(subject: string, handler: (message: BusMessage) => void, options?: { queue?: string }): Subscription {
    checkFilter(subject)
    const subscription = this.link.nc.subscribe(subject, {
      ...(options?.queue && { queue: options.queue }),
      callback: (error, message) => {
        if (error) this.report(`subscription ${subject}`, error)
        else handler(busMessage(message))
      },
    })
    return { unsubscribe: () => subscription.unsubscribe() }
  }

  async request(subject: string, body: Uint8Array, { timeoutMs, answersUnder }: RequestOptions): Promise<Uint8Array> {
    return (await this.link.ask(subject, body, timeoutMs, answersUnder)).data
  }
}

function busMessage(message: Msg): BusMessage {
  return {
    subject: message.subject,
    body: message.data,
    reply: message.reply ?? '',
    // Parsed on demand, because most messages have no headers.
    get headers() {
      return applicationHeaders(message)
    },
    noResponders: statusOf(message) === 503,
  }
}
