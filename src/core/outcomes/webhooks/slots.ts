/** A bounded number of slots. Those who wait get one in the order in which they came. */
export class Slots {
  private taken = 0
  private readonly waiting: (() => void)[] = []

  constructor(private readonly max: number) {}

  get inUse(): number {
    return this.taken
  }

  /** Resolves when a slot is free. The result releases it, and is called once. */
  async take(): Promise<() => void> {
    if (this.taken >= this.max) await new Promise<void>((resolve) => this.waiting.push(resolve))
    else this.taken++
    return () => {
      // The slot passes to the next in line, so that no later caller can take it first.
      const next = this.waiting.shift()
      if (next) next()
      else this.taken--
    }
  }
}
