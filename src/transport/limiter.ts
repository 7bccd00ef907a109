/** So many asynchronous things at once; the others wait in order. */
export class Limiter {
  private running = 0
  private readonly waiting: (() => void)[] = []

  constructor(private readonly max: number) {}

  async run<T>(work: () => Promise<T>): Promise<T> {
    await this.enter()
    try {
      return await work()
    } finally {
      this.leave()
    }
  }

  /** Within run(): another one has the place while this one waits for somebody whose patience is not ours. */
  async aside<T>(wait: () => Promise<T>): Promise<T> {
    this.leave()
    try {
      return await wait()
    } finally {
      await this.enter()
    }
  }

  private async enter(): Promise<void> {
    if (this.running >= this.max) await new Promise<void>((resolve) => this.waiting.push(resolve))
    else this.running++
  }

  private leave(): void {
    // The place goes to who waits without becoming free between.
    const next = this.waiting.shift()
    if (next) next()
    else this.running--
  }
}
