/** Who wants to know of the connection's changes. */
import type { BrokerStatus, Subscription } from '../broker.js'

export class Reconnects {
  readonly #handlers = new Set<(status: BrokerStatus) => void>()

  on(handler: (status: BrokerStatus) => void): Subscription {
    // A wrapper of its own, so that the same function may be given twice and taken back once.
    const entry = (status: BrokerStatus) => handler(status)
    this.#handlers.add(entry)
    return { unsubscribe: () => void this.#handlers.delete(entry) }
  }

  emit(status: BrokerStatus): void {
    for (const handler of [...this.#handlers]) handler(status)
  }
}
