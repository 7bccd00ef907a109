/** The sessions of a worker: by device, and in a list without holes that sweeps and audits walk. */
import type { Session } from './session.js'

export class Registry {
  private readonly byDevice = new Map<string, Session>()
  private readonly slots: Session[] = []

  get size(): number {
    return this.slots.length
  }

  get(device: string): Session | null {
    return this.byDevice.get(device) ?? null
  }

  /** The device is this session's from now on. A session that it had before stays in no list: its owner closes it. */
  add(session: Session): void {
    const before = this.byDevice.get(session.device)
    if (before) this.remove(before)
    this.byDevice.set(session.device, session)
    session.slot = this.slots.push(session) - 1
  }

  /** A settlement of the device was given up: whoever has it now reads its queue again. */
  unsettled(device: string): void {
    const session = this.byDevice.get(device)
    if (session) session.isUnsettled = true
  }

  /** False where another session took its place: a late close cannot evict a newer connection. */
  remove(session: Session): boolean {
    if (session.slot < 0) return false
    const last = this.slots.pop() as Session
    if (last !== session) {
      this.slots[session.slot] = last
      last.slot = session.slot
    }
    session.slot = -1
    this.byDevice.delete(session.device)
    return true
  }

  /**
   * Calls `visit` for up to `count` sessions from `start` on, and gives where to go on; it begins anew at the end of
   * the list. `visit` may remove sessions; then one may be met a walk later.
   */
  walk(start: number, count: number, visit: (session: Session) => void): number {
    let at = start
    for (let visited = 0; visited < count && this.slots.length > 0; visited++) {
      if (at >= this.slots.length) at = 0
      visit(this.slots[at] as Session)
      at++
    }
    return at >= this.slots.length ? 0 : at
  }

  /** Messages that all of them were sent and have not acknowledged; counted now. */
  unacknowledged(): number {
    let sum = 0
    for (const session of this.slots) sum += session.unacknowledged
    return sum
  }

  all(): Session[] {
    return [...this.slots]
  }
}
