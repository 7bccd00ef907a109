/**
 * Ends of sessions on their way to the table (ADR 0012): late, so that a device which is soon back at this worker finds the
 * record that its ticket names, and replaces it by one write.
 *
 * Until a tombstone stands, whoever looks finds a session whose worker answers "not here": a detour, never a loss. Being
 * late cannot end another's session either: the write is a compare-and-set on the revision that was ours.
 */
import type { Clock } from '../../clock.js'
import type { SessionOwner, SessionTable } from '../../store/sessions.js'
import { Limiter } from '../limiter.js'
import type { Session } from './session.js'

/** A worker that loses all its devices at once must not fill the store's queue with their ends. */
const IN_FLIGHT_MAX = 256

/** So many turns of the timer in one delay. */
const SLICES = 10

interface Ended {
  device: string
  connection: number
  revision: number
  endedAtMs: number
}

export interface TombstonePace {
  /** From the end of a session to its tombstone. */
  tombstoneDelayMs: number
  /** Most that wait. Beyond, the oldest is written at once. */
  tombstonesWaitingMax: number
}

export class Tombstones {
  private readonly limiter = new Limiter(IN_FLIGHT_MAX)
  private readonly underWay = new Set<Promise<void>>()
  /** By device, in the order in which they ended. */
  private readonly waiting = new Map<string, Ended>()
  private cancelTimer: (() => void) | null = null
  private isLeaving = false

  constructor(
    private readonly sessions: SessionTable,
    private readonly owner: Omit<SessionOwner, 'connection'>,
    private readonly clock: Clock,
    private readonly pace: TombstonePace,
    private readonly onError: (what: string, error: unknown) => void,
  ) {}

  /** The session is over; its record is ended later, unless the device is back by then. */
  ended({ device, connection, revision }: Session): void {
    if (this.isLeaving) return
    // Only the newest end of a device is worth a write, and it has to stand last.
    this.waiting.delete(device)
    this.waiting.set(device, { device, connection, revision, endedAtMs: this.clock.now() })
    if (this.waiting.size > this.pace.tombstonesWaitingMax) this.writeOldest()
    this.cancelTimer ??= this.schedule()
  }

  /** Number of the device's session whose end is not written yet: as good as written, for who comes after. */
  connectionOf(device: string): number | null {
    return this.waiting.get(device)?.connection ?? null
  }

  /** The table has a session of the device with a greater number: what waits for it would come too late. */
  replaced(device: string, connection: number): void {
    const ended = this.waiting.get(device)
    if (ended && ended.connection < connection) this.waiting.delete(device)
  }

  /**
   * The worker leaves: nothing is written any more. A lease that was released says of all its sessions what a
   * tombstone says of one.
   */
  leave(): void {
    this.isLeaving = true
    this.waiting.clear()
    this.cancelTimer?.()
    this.cancelTimer = null
  }

  async settled(): Promise<void> {
    await Promise.all(this.underWay)
  }

  private schedule(): () => void {
    const { tombstoneDelayMs } = this.pace
    return this.clock.after(Math.ceil(tombstoneDelayMs / SLICES), () => {
      const dueMs = this.clock.now() - tombstoneDelayMs
      for (const { endedAtMs } of this.waiting.values()) {
        if (endedAtMs > dueMs) break
        this.writeOldest()
      }
      this.cancelTimer = this.waiting.size > 0 ? this.schedule() : null
    })
  }

  /** Once: where it fails, the table names a worker that answers "not here". */
  private writeOldest(): void {
    const [oldest] = this.waiting.values()
    if (!oldest) return
    const { device, connection, revision } = oldest
    this.waiting.delete(device)
    const written: Promise<void> = this.limiter
      .run(async () => {
        await this.sessions.close(device, { ...this.owner, connection }, revision)
      })
      .catch((error: unknown) => this.onError('tombstone', error))
      .then(() => {
        this.underWay.delete(written)
      })
    this.underWay.add(written)
  }
}
