/**
 * Every worker of an instance replaced, one after the other, and each device moved once: only new workers listen
 * (candidates.ts), and a worker that leaves hears how many devices the others have, so that it asks its own to go no faster
 * than they are back (drain.ts).
 */
import { type Clock, sleep } from '../../clock.js'
import type { DrainPace } from '../upkeep/drain.js'
import { workersToListen } from './listen-gate.js'
import type { Slot } from './slot.js'
import type { WorkerChild } from './worker-child.js'

/** How often the workers are asked how many devices they have: devices that are back and not known to be make others wait. */
const LOOK_MS = 100

export class RollingRestart {
  private readonly old: ReadonlySet<WorkerChild>
  /** Who was told to leave the port to others. */
  private readonly shut = new Set<WorkerChild>()
  /** Most devices that the instance had: those that are on their way count as well. */
  private devices = 0
  private isOver = false

  constructor(
    private readonly slots: readonly Slot[],
    private readonly clock: Clock,
    private readonly pace: DrainPace,
  ) {
    this.old = new Set(this.children())
  }

  /** Rejects where a new worker does not start; the others stay as they are. */
  async run(onReplaced: (slot: Slot) => void): Promise<void> {
    const watching = this.watch()
    try {
      for (const slot of this.slots) {
        await slot.replace(this.pace, () => this.look())
        onReplaced(slot)
      }
    } finally {
      this.isOver = true
      await watching
      for (const child of this.shut) child.accept(true)
    }
  }

  private async watch(): Promise<void> {
    while (!this.isOver) {
      await this.look()
      await sleep(this.clock, LOOK_MS)
    }
  }

  private async look(): Promise<void> {
    const asked = this.children().filter(({ state }) => state === 'ready' || state === 'draining')
    const all = await Promise.all(
      // One that does not answer may have died, or be too busy for devices.
      asked.map(async (child) => ({ child, sessions: await child.ask('sessions').catch(() => 0) })),
    )
    if (this.isOver) return
    this.devices = Math.max(
      this.devices,
      all.reduce((sum, { sessions }) => sum + sessions, 0),
    )
    const staying = all.filter(({ child }) => child.state === 'ready')
    const elsewhere = staying.reduce((sum, { sessions }) => sum + sessions, 0)
    for (const { child } of all) if (child.state === 'draining') child.elsewhere(elsewhere)
    const candidates = staying.map(({ child, sessions }) => ({ isNew: !this.old.has(child), sessions }))
    const open = workersToListen(candidates, this.devices / this.slots.length)
    for (const [i, { child }] of staying.entries()) this.turn(child, open[i] === true)
  }

  private turn(child: WorkerChild, isOpen: boolean): void {
    if (isOpen !== this.shut.has(child)) return
    if (isOpen) this.shut.delete(child)
    else this.shut.add(child)
    child.accept(isOpen)
  }

  private children(): WorkerChild[] {
    return this.slots.flatMap((slot) => slot.children())
  }
}
