/** Reads what devices are owed: one cheap look for each, and a bounded number of walks at a time. */
import type { ParkedEntry, ParkedQueue } from '../../store/queue.js'
import { Limiter } from '../admission/limiter.js'

export class CatchUps {
  private readonly walks: Limiter

  constructor(
    private readonly parked: ParkedQueue,
    walksMax: number,
  ) {
    this.walks = new Limiter(walksMax)
  }

  /** Oldest first. Rejects with FabricError: then nothing is known. */
  async read(device: string): Promise<ParkedEntry[]> {
    const newest = await this.parked.last(device)
    return newest ? this.walks.run(() => this.parked.walk(device, newest)) : []
  }
}
