/**
 * Lanes: while the router waits for something of a device (a session look-up, an enqueue), the other messages of that
 * device wait behind it, so that they keep their order (I3). Devices do not wait for each other.
 *
 * Messages in lanes are in flight too, so the router's maximum of in-flight messages bounds them.
 */
export class Lanes<T> {
  private readonly lanes = new Map<string, T[]>()
  private readonly running = new Set<Promise<void>>()

  /**
   * @param compare compares two items, as for sort(). A lane is kept in this order, because an item that returns from a
   *   worker is older than items that came in the meantime.
   * @param work takes one or more items from the front of the lane, and resolves when it is done with them. It must not
   *   reject. While it waits, older items may be inserted at the front.
   */
  constructor(
    private readonly compare: (a: T, b: T) => number,
    private readonly work: (device: string, queue: T[]) => Promise<void>,
  ) {}

  get size(): number {
    return this.lanes.size
  }

  /** True while the device has a lane. */
  has(device: string): boolean {
    return this.lanes.has(device)
  }

  push(device: string, item: T): void {
    const lane = this.lanes.get(device)
    if (lane) {
      let at = lane.length
      while (at > 0 && this.compare(lane[at - 1] as T, item) > 0) at--
      lane.splice(at, 0, item)
    } else {
      const queue = [item]
      this.lanes.set(device, queue)
      const run = this.run(device, queue)
      this.running.add(run)
      void run.finally(() => this.running.delete(run))
    }
  }

  /** Resolves when all present lanes are empty. */
  async idle(): Promise<void> {
    await Promise.all(this.running)
  }

  private async run(device: string, queue: T[]): Promise<void> {
    while (queue.length > 0) await this.work(device, queue)
    // In the turn that found the lane empty, so that the next item starts a new lane.
    this.lanes.delete(device)
  }
}

/** Removes and returns the items at the front that satisfy a condition. */
export function takeFirst<T>(queue: T[], isWanted: (item: T) => boolean): T[] {
  const end = queue.findIndex((item) => !isWanted(item))
  return queue.splice(0, end < 0 ? queue.length : end)
}
