/**
 * What a router remembers of where devices are: bounded, least recently used out first, never watched (ADR 0009).
 *
 * A stale entry costs a detour, never a message: its worker answers "not here", and enqueuing looks for itself.
 */
import type { SessionEntry } from '../../../store/sessions.js'

export class SessionCache {
  private readonly entries = new Map<string, SessionEntry>()

  constructor(private readonly entriesMax: number) {}

  get(device: string): SessionEntry | undefined {
    const entry = this.entries.get(device)
    if (entry) {
      // Last in the map's order is the most recently used.
      this.entries.delete(device)
      this.entries.set(device, entry)
    }
    return entry
  }

  remember(device: string, entry: SessionEntry): void {
    this.entries.delete(device)
    this.entries.set(device, entry)
    if (this.entries.size > this.entriesMax) {
      const oldest = this.entries.keys().next()
      if (!oldest.done) this.entries.delete(oldest.value)
    }
  }

  forget(device: string): void {
    this.entries.delete(device)
  }
}

/** The same session: the same connection at the same worker. */
export function sameSession(a: SessionEntry, b: SessionEntry): boolean {
  return a.instance === b.instance && a.worker === b.worker && a.connection === b.connection
}
