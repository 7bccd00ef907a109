/**
 * Replaces every worker of an instance, one after the other, so that each device moves once. Only new workers with
 * room listen (listen-gate.ts). A worker that leaves is told how many devices the other workers have, so that it asks
 * its own to leave only as fast as they return (upkeep/drain.ts).
 */
import { type Clock, sleep } from '../../clock.js'
import type { DrainPace } from '../upkeep/drain.js'
import { workersToListen } from './listen-gate.js'
import type { Slot } from './slot.js'
import type { WorkerChild } from './worker-child.js'

/**
 * How often the workers are asked for their number of devices: the next devices leave only after the count of those
 * that returned.
 */
const POLL_MS = 100

export class RollingRestart {
  private readonly oldWorkers: ReadonlySet<WorkerChild>
  /** Workers that were told not to listen. */
  private readonly notListening = new Set<WorkerChild>()
  /** The highest number of devices so far: those that are moving at the moment count too. */
  private devices = 0
  private isOver = false

  constructor(
    private readonly slots: readonly Slot[],
    private readonly clock: Clock,
    private readonly pace: DrainPace,
  ) {
    this.oldWorkers = new Set(this.children())
  }

  /** Rejects if a new worker does not start; then the workers that were not replaced stay. */
  async run(onReplaced: (slot: Slot) => void): Promise<void> {
    const polling = this.poll()
    try {
      for (const slot of this.slots) {
        await slot.replace(this.pace, () => this.adjust())
        onReplaced(slot)
      }
    } finally {
      this.isOver = true
      await polling
      for (const child of this.notListening) child.setListening(true)
    }
  }

  private async poll(): Promise<void> {
    while (!this.isOver) {
      await this.adjust()
      await sleep(this.clock, POLL_MS)
    }
  }

  /** Asks all workers for their number of devices, then decides which of them listen. */
  private async adjust(): Promise<void> {
    const asked = this.children().filter(({ state }) => state === 'ready' || state === 'draining')
    const all = await Promise.all(
      // A worker that does not answer has died or is too busy for more devices.
      asked.map(async (child) => ({ child, sessions: await child.ask('sessions').catch(() => 0) })),
    )
    if (this.isOver) return
    this.devices = Math.max(
      this.devices,
      all.reduce((sum, { sessions }) => sum + sessions, 0),
    )
    const staying = all.filter(({ child }) => child.state === 'ready')
    const devicesElsewhere = staying.reduce((sum, { sessions }) => sum + sessions, 0)
    for (const { child } of all) if (child.state === 'draining') child.sendDevicesElsewhere(devicesElsewhere)
    const candidates = staying.map(({ child, sessions }) => ({ isNew: !this.oldWorkers.has(child), sessions }))
    const toListen = workersToListen(candidates, this.devices / this.slots.length)
    for (const [i, { child }] of staying.entries()) this.setListening(child, toListen[i] === true)
  }

  private setListening(child: WorkerChild, isListening: boolean): void {
    if (isListening !== this.notListening.has(child)) return
    if (isListening) this.notListening.delete(child)
    else this.notListening.add(child)
    child.setListening(isListening)
  }

  private children(): WorkerChild[] {
    return this.slots.flatMap((slot) => slot.children())
  }
}
