/** Limits the number of asynchronous tasks at a time. Further tasks wait in order. */
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

  /**
   * Called within run(): gives the place to another task during a wait that depends on a device, then waits for a
   * place.
   */
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
    // The next task takes over the place: if it became free in between, a new task could get it first.
    const next = this.waiting.shift()
    if (next) next()
    else this.running--
  }
}
