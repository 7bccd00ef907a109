/** So many asynchronous things at once; the others wait in order. */
export class Limiter {
  private running = 0
  private readonly waiting: (() => void)[] = []

  constructor(private readonly max: number) {}

  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.running >= this.max) await new Promise<void>((resolve) => this.waiting.push(resolve))
    else this.running++
    try {
      return await work()
    } finally {
      // The place goes to who waits without becoming free between.
      const next = this.waiting.shift()
      if (next) next()
      else this.running--
    }
  }
}
