/** The sessions of a worker, by device, and the rounds in which sweeps and audits walk through them. */
import type { Session } from './session.js'

export class Registry {
  private readonly byDevice = new Map<string, Session>()

  get size(): number {
    return this.byDevice.size
  }

  get(device: string): Session | null {
    return this.byDevice.get(device) ?? null
  }

  /** The device is this session's from now on. A session that it had before stays in no list: its owner closes it. */
  add(session: Session): void {
    // Behind all others, as a round meets them.
    this.byDevice.delete(session.device)
    this.byDevice.set(session.device, session)
  }

  /** A settlement of the device was given up: whoever has it now reads its queue again. */
  unsettled(device: string): void {
    this.byDevice.get(device)?.unsettled()
  }

  /** False where another session took its place: a late close cannot evict a newer connection. */
  remove(session: Session): boolean {
    return this.byDevice.get(session.device) === session && this.byDevice.delete(session.device)
  }

  /** A walk of its own through all sessions, that never ends. */
  rounds(): Rounds {
    return new Rounds(this.byDevice)
  }

  /** Messages that all of them were sent and have not acknowledged; counted now. */
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
 * Round after round, in the order in which the sessions came. Who comes or leaves meanwhile, in a visit too, is met or not
 * as the place in the order says: an iterator of a Map lives with it.
 */
export class Rounds {
  private place: Iterator<Session> | null = null

  constructor(private readonly sessions: ReadonlyMap<string, Session>) {}

  /** Calls `visit` for the next `count` sessions, all of them at most. */
  walk(count: number, visit: (session: Session) => void): void {
    for (let left = Math.min(count, this.sessions.size); left > 0 && this.sessions.size > 0; ) {
      this.place ??= this.sessions.values()
      const { done, value } = this.place.next()
      if (done) this.place = null
      else {
        left--
        visit(value)
      }
    }
  }
}
