/** The parts that a process has started. They stop in the reverse order of their start. */
export interface Stoppable {
  stop(): Promise<void>
}

/** A part, or the function that stops it. */
type Part = Stoppable | (() => Promise<void>)

export class StopStack implements Stoppable {
  readonly #parts: Part[] = []

  add(part: Part): void {
    this.#parts.push(part)
  }

  /** Adds a part that stops last, whatever was added before it. */
  addFirst(part: Part): void {
    this.#parts.unshift(part)
  }

  /** Stops each part once, even if another part fails. Rejects with the first failure. */
  async stop(): Promise<void> {
    const failures = await this.#stopAll()
    if (failures.length > 0) throw failures[0]
  }

  /** After a failed start: stops the parts that were started, and rejects with the reason of the failure. */
  async abandon(reason: unknown): Promise<never> {
    const failures = await this.#stopAll()
    if (failures.length === 0) throw reason
    throw new AggregateError([reason, ...failures], reason instanceof Error ? reason.message : String(reason))
  }

  async #stopAll(): Promise<unknown[]> {
    const failures: unknown[] = []
    for (const part of this.#parts.splice(0).reverse()) {
      const stopped = typeof part === 'function' ? part() : part.stop()
      await stopped.catch((error: unknown) => failures.push(error))
    }
    return failures
  }
}
