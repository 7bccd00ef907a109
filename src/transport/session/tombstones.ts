/**
 * Writes the ends of sessions (tombstones) to the session table, with a delay (ADR 0012). A device that reconnects to
 * this worker within the delay still finds the record that its ticket names, and replaces it with one write.
 *
 * Until the tombstone is written, a router finds a session whose worker reports NOT_HERE: a detour, never a loss. A
 * late tombstone cannot end a newer session: the write is a compare-and-set on the revision of the session that
 * ended.
 */
import type { Clock } from '../../clock.js'
import { type Fence, refusalOf, type SessionOwner, type SessionTable } from '../../store/sessions.js'
import { Limiter } from '../limiter.js'
import type { Session } from './session.js'

/**
 * Most writes at a time: a worker that loses all its devices at once must not fill the store's queue with tombstones.
 */
const IN_FLIGHT_MAX = 256

/** The timer runs this often within one delay. */
const SLICES = 10

interface EndedSession extends Fence {
  device: string
  revision: number
  endedAtMs: number
}

export interface TombstonePace {
  /** From the end of a session to its tombstone. */
  tombstoneDelayMs: number
  /** Most ended sessions that wait. Beyond, the oldest tombstone is written at once. */
  tombstonesWaitingMax: number
}

export class Tombstones {
  private readonly limiter = new Limiter(IN_FLIGHT_MAX)
  private readonly writes = new Set<Promise<void>>()
  /** Ended sessions by device, in the order in which they ended. */
  private readonly waiting = new Map<string, EndedSession>()
  private cancelTimer: (() => void) | null = null
  private isLeaving = false

  constructor(
    private readonly sessions: SessionTable,
    private readonly owner: Omit<SessionOwner, keyof Fence>,
    private readonly clock: Clock,
    private readonly pace: TombstonePace,
    private readonly onError: (task: string, error: unknown) => void,
  ) {}

  /** The session is over. Its tombstone is written after the delay, unless the device reconnects before. */
  add({ device, connection, tokenIssuedAtMs, revision }: Session): void {
    if (this.isLeaving) return
    // Only the newest end of a device is written. Deleted first, it goes to the end of the Map, which is sorted by
    // time.
    this.waiting.delete(device)
    this.waiting.set(device, { device, connection, tokenIssuedAtMs, revision, endedAtMs: this.clock.steadyMs() })
    if (this.waiting.size > this.pace.tombstonesWaitingMax) this.writeOldest()
    this.cancelTimer ??= this.schedule()
  }

  /** The ended session whose tombstone waits. A newer session is checked against it as if it was written. */
  fenceOf(device: string): Fence | null {
    return this.waiting.get(device) ?? null
  }

  /** The table has the session `by` of the device: the tombstone of an older session is not needed any more. */
  dropOlder(device: string, by: Fence): void {
    const ended = this.waiting.get(device)
    if (ended && refusalOf(by, ended) === null) this.waiting.delete(device)
  }

  /** As dropOlder, for a session on another worker, of which only the connection number is known. */
  dropBelow(device: string, connection: number): void {
    const ended = this.waiting.get(device)
    if (ended && ended.connection < connection) this.waiting.delete(device)
  }

  /**
   * The worker leaves: no tombstone is written from now on. The released lease ends all sessions of the worker at
   * once.
   */
  leave(): void {
    this.isLeaving = true
    this.waiting.clear()
    this.cancelTimer?.()
    this.cancelTimer = null
  }

  /** Resolves when no write is under way. */
  async written(): Promise<void> {
    await Promise.all(this.writes)
  }

  private schedule(): () => void {
    const { tombstoneDelayMs } = this.pace
    return this.clock.after(Math.ceil(tombstoneDelayMs / SLICES), () => {
      const dueMs = this.clock.steadyMs() - tombstoneDelayMs
      for (const { endedAtMs } of this.waiting.values()) {
        if (endedAtMs > dueMs) break
        this.writeOldest()
      }
      this.cancelTimer = this.waiting.size > 0 ? this.schedule() : null
    })
  }

  /** A write that fails is not repeated: the table then names a worker that reports NOT_HERE. */
  private writeOldest(): void {
    const [oldest] = this.waiting.values()
    if (!oldest) return
    const { device, connection, tokenIssuedAtMs = 0, revision } = oldest
    this.waiting.delete(device)
    const write: Promise<void> = this.limiter
      .run(async () => {
        await this.sessions.close(device, { ...this.owner, connection, tokenIssuedAtMs }, revision)
      })
      .catch((error: unknown) => this.onError('tombstone', error))
      .then(() => {
        this.writes.delete(write)
      })
    this.writes.add(write)
  }
}
