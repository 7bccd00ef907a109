/** The parts that all logs and tables of one connection share. */
import type { BrokerStatus, Subscription } from '../broker.js'
import type { Headroom } from '../server/headroom.js'
import type { Link } from './link.js'
import type { Window } from './window.js'

export interface Connection {
  link: Link
  appends: Window
  status: StatusListeners
  /**
   * True if the server is in no cluster. Every stream then has one copy, so a direct get is authoritative (ADR 13). In a
   * cluster, a replica that lags may answer a direct get, so authoritative reads go to the leader.
   */
  isStandalone: () => boolean
  /** False for a user that nats-server does not let create consumers. */
  mayCreateConsumers: boolean
  /** Null in a process that accepts no messages. */
  headroom: Headroom | null
  report: (problem: string, error: unknown) => void
}

/** Encodes a request to the JetStream API. */
export const json = (value: object): Uint8Array => Buffer.from(JSON.stringify(value))

/** The subscribers to changes of the connection's status. */
export class StatusListeners {
  readonly #handlers = new Set<(status: BrokerStatus) => void>()

  on(handler: (status: BrokerStatus) => void): Subscription {
    // A wrapper of its own: the same function may subscribe twice and unsubscribe once.
    const entry = (status: BrokerStatus) => handler(status)
    this.#handlers.add(entry)
    return { unsubscribe: () => void this.#handlers.delete(entry) }
  }

  emit(status: BrokerStatus): void {
    for (const handler of [...this.#handlers]) handler(status)
  }
}
