/** A semaphore that serves its callers in the order of their calls. */
export class Slots {
  private taken = 0
  private readonly waiting: (() => void)[] = []

  constructor(private readonly max: number) {}

  get inUse(): number {
    return this.taken
  }

  /** Resolves when a slot is free. The returned function releases the slot; call it once. */
  async take(): Promise<() => void> {
    if (this.taken >= this.max) await new Promise<void>((resolve) => this.waiting.push(resolve))
    else this.taken++
    return () => {
      // The slot passes directly to the next caller, so that no later one can take it first.
      const next = this.waiting.shift()
      if (next) next()
      else this.taken--
    }
  }
}
