/** Reads what devices are owed: one cheap look for each, and a bounded number of walks at a time. */
import type { DeviceQueue, QueueEntry } from '../../store/queue.js'
import { Limiter } from '../limiter.js'

export class CatchUps {
  private readonly walks: Limiter

  constructor(
    private readonly queued: DeviceQueue,
    walksMax: number,
  ) {
    this.walks = new Limiter(walksMax)
  }

  /** Oldest first. Rejects with BrokerError: then nothing is known. */
  async read(device: string): Promise<QueueEntry[]> {
    const newest = await this.queued.last(device)
    return newest ? this.walks.run(() => this.queued.walk(device, newest)) : []
  }
}
