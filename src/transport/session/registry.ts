/** The sessions of a worker by device, and the rounds in which sweeps and audits walk through them. */
import type { Session } from './session.js'

export class Registry {
  private readonly byDevice = new Map<string, Session>()

  get size(): number {
    return this.byDevice.size
  }

  get(device: string): Session | null {
    return this.byDevice.get(device) ?? null
  }

  /**
   * Makes this the session of its device. The registry drops the session before it; the caller has to close that one.
   */
  add(session: Session): void {
    // A Map keeps the position of a key that is set again: deleted first, the session goes to the end of the rounds.
    this.byDevice.delete(session.device)
    this.byDevice.set(session.device, session)
  }

  /** A settlement of the device was given up: its present session has to read QUEUE again. */
  markUnsettled(device: string): void {
    this.byDevice.get(device)?.markUnsettled()
  }

  /** Returns false if the device has another session by now: a late close cannot evict a newer connection. */
  remove(session: Session): boolean {
    return this.byDevice.get(session.device) === session && this.byDevice.delete(session.device)
  }

  /** Begins an endless walk through all sessions, independent of other walks. */
  rounds(): Rounds {
    return new Rounds(this.byDevice)
  }

  /** Counts the messages of all sessions that were sent and are not acknowledged. */
  unacknowledged(): number {
    let sum = 0
    for (const session of this.byDevice.values()) sum += session.unacknowledged
    return sum
  }

  all(): Session[] {
    return [...this.byDevice.values()]
  }
}

/**
 * Walks through the sessions round after round, in the order in which they were added. Sessions may come and go
 * during a round, even within a visit: the iterator of a Map skips deleted entries and reaches entries added behind
 * it.
 */
export class Rounds {
  private iterator: Iterator<Session> | null = null

  constructor(private readonly sessions: ReadonlyMap<string, Session>) {}

  /** Calls `visit` for the next `count` sessions, or for each session once if there are fewer. */
  walk(count: number, visit: (session: Session) => void): void {
    for (let left = Math.min(count, this.sessions.size); left > 0 && this.sessions.size > 0; ) {
      this.iterator ??= this.sessions.values()
      const { done, value } = this.iterator.next()
      if (done) this.iterator = null
      else {
        left--
        visit(value)
      }
    }
  }
}
