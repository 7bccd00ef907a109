/** So many at once; the others wait in the order in which they came. */
export class Slots {
  private taken = 0
  private readonly waiting: (() => void)[] = []

  constructor(private readonly max: number) {}

  get inUse(): number {
    return this.taken
  }

  /** Resolves when one is free; the answer gives it back, and is called once. */
  async take(): Promise<() => void> {
    if (this.taken >= this.max) await new Promise<void>((resolve) => this.waiting.push(resolve))
    else this.taken++
    return () => {
      // Handed over, so that nobody who comes later is faster.
      const next = this.waiting.shift()
      if (next) next()
      else this.taken--
    }
  }
}
