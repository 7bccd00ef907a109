/** Who wants to know of the connection's changes. */
import type { FabricStatus, Subscription } from '../broker.js'

export class Reconnects {
  readonly #handlers = new Set<(status: FabricStatus) => void>()

  on(handler: (status: FabricStatus) => void): Subscription {
    // A wrapper of its own, so that the same function may be given twice and taken back once.
    const entry = (status: FabricStatus) => handler(status)
    this.#handlers.add(entry)
    return { unsubscribe: () => void this.#handlers.delete(entry) }
  }

  emit(status: FabricStatus): void {
    for (const handler of [...this.#handlers]) handler(status)
  }
}
