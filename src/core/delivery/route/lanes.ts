/**
 * Lanes: while something of a device has to be waited for (its session is looked up, one of its messages is queued),
 * its other messages queue behind, so that they keep their order (I3). Devices do not wait for each other.
 *
 * What stands in lanes is in hand as well, and so bounded by the router's pending maximum.
 */
export class Lanes<T> {
  private readonly lanes = new Map<string, T[]>()
  private readonly running = new Set<Promise<void>>()

  /**
   * @param inOrder of two items, as for sort(): a queue is kept in it, for what comes back from a worker is older than
   *   what came meanwhile, and would go after it.
   * @param work takes what it likes from the front of the queue (at least one) and resolves when it is done with that.
   *   It must not reject. While it waits, older items may come to the front.
   */
  constructor(
    private readonly inOrder: (a: T, b: T) => number,
    private readonly work: (device: string, queue: T[]) => Promise<void>,
  ) {}

  get size(): number {
    return this.lanes.size
  }

  /** True while something of the device is being waited for. */
  busy(device: string): boolean {
    return this.lanes.has(device)
  }

  push(device: string, item: T): void {
    const lane = this.lanes.get(device)
    if (lane) {
      let at = lane.length
      while (at > 0 && this.inOrder(lane[at - 1] as T, item) > 0) at--
      lane.splice(at, 0, item)
    } else {
      const queue = [item]
      this.lanes.set(device, queue)
      const run = this.run(device, queue)
      this.running.add(run)
      void run.finally(() => this.running.delete(run))
    }
  }

  /** Resolves when the lanes that there are now have come to their ends. */
  async idle(): Promise<void> {
    await Promise.all(this.running)
  }

  private async run(device: string, queue: T[]): Promise<void> {
    while (queue.length > 0) await this.work(device, queue)
    // In the same turn in which the queue was seen empty: whoever comes next starts a new lane.
    this.lanes.delete(device)
  }
}

/** Takes from the front of a queue what is like that. */
export function takeFirst<T>(queue: T[], isWanted: (item: T) => boolean): T[] {
  const end = queue.findIndex((item) => !isWanted(item))
  return queue.splice(0, end < 0 ? queue.length : end)
}
