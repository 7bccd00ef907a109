/** Reads the offline queues of devices. The number of queues that are walked through at a time is limited. */
import type { DeviceQueue, QueueEntry } from '../../store/queue.js'
import { Limiter } from '../limiter.js'

export class CatchUps {
  private readonly walks: Limiter

  constructor(
    private readonly queue: DeviceQueue,
    walksMax: number,
  ) {
    this.walks = new Limiter(walksMax)
  }

  /**
   * Returns the records of the device's queue, oldest first. Rejects with BrokerError: then it is unknown whether the
   * queue has records.
   */
  async read(device: string): Promise<QueueEntry[]> {
    // Most queues are empty. One cheap read finds that out, so only the walk through a queue is limited.
    const newest = await this.queue.last(device)
    return newest ? this.walks.run(() => this.queue.walk(device, newest)) : []
  }
}
